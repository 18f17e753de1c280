/* Loads the core, once per process, and says why when that is not possible. */
#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "stub.h"

static struct slimccl_lock lock;
static _Atomic bool settled;
static const struct slimccl_overlay* core; /* valid once settled */

void slimccl_warn(const char* format, ...) {
  const char* level = getenv("SLIMCCL_LOG");
  if (level != NULL && strcmp(level, "none") == 0) return;
  char line[2048], host[256] = "?";
  gethostname(host, sizeof host - 1);
  int used =
      snprintf(line, sizeof line, "%s:%d:%d SLIMCCL WARN ", host, (int)getpid(), (int)gettid());
  va_list parts;
  va_start(parts, format);
  used += vsnprintf(line + used, sizeof line - (size_t)used, format, parts);
  va_end(parts);
  if (used > (int)sizeof line - 2) used = (int)sizeof line - 2;
  line[used] = '\n';
  if (write(STDERR_FILENO, line, (size_t)used + 1) < 0) return; /* nobody to be told */
}

bool slimccl_off(void) {
  const char* wanted = getenv("SLIMCCL_OVERLAY");
  return wanted != NULL &&
         (strcmp(wanted, "off") == 0 || strcmp(wanted, "0") == 0 || strcmp(wanted, "false") == 0);
}

/* The number in hexadecimal at `text`, which is moved behind it. strtoul of newer C libraries would
 * be a newer symbol. */
static uintptr_t hexadecimal(const char** text) {
  uintptr_t value = 0;
  for (;; ++*text) {
    const char digit = **text;
    if (digit >= '0' && digit <= '9')
      value = value * 16 + (uintptr_t)(digit - '0');
    else if (digit >= 'a' && digit <= 'f')
      value = value * 16 + (uintptr_t)(digit - 'a' + 10);
    else
      return value;
  }
}

/* The absolute path of the file that `address` is mapped from, to be freed; null if the system does
 * not tell. The loader's own name may be relative to a folder that we have left. */
static char* mapped_file(uintptr_t address) {
  FILE* maps = fopen("/proc/self/maps", "re");
  char *line = NULL, *file = NULL;
  size_t room = 0;
  while (maps != NULL && file == NULL && getline(&line, &room, maps) > 0) {
    const char* text = line;
    const uintptr_t start = hexadecimal(&text);
    ++text;
    if (address < start || address >= hexadecimal(&text)) continue;
    const char* path = strchr(text, '/');
    if (path == NULL) break;
    file = strdup(path);
    if (file != NULL) file[strcspn(file, "\n")] = '\0';
  }
  free(line);
  if (maps != NULL) fclose(maps);
  return file;
}

/* The core's path, to be freed. Beside the stub; if that cannot be told, wherever the loader looks.
 */
static char* core_path(void) {
  static const char kName[] = "libslimccl-core.so";
  Dl_info info = {0};
  char *file = mapped_file((uintptr_t)&slimccl_core), *path = NULL;
  if (file == NULL && dladdr((void*)&slimccl_core, &info) != 0 && info.dli_fname[0] == '/')
    file = strdup(info.dli_fname);
  const int folder = file == NULL ? 0 : (int)(strrchr(file, '/') - file) + 1;
  if (asprintf(&path, "%.*s%s", folder, file == NULL ? "" : file, kName) < 0) path = NULL;
  free(file);
  return path;
}

static const struct slimccl_overlay* load(void) {
  if (slimccl_off()) return NULL;
  char* path = core_path();
  void* handle = path == NULL ? NULL : dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  const char* why = NULL;
  const struct slimccl_overlay* opened = NULL;
  if (handle == NULL) {
    why = dlerror();
  } else {
    slimccl_overlay_open_fn* open = NULL;
    *(void**)&open = dlsym(handle, "slimccl_overlay_open");
    if (open != NULL) opened = open(SLIMCCL_OVERLAY_ABI, SLIMCCL_VERSION, &why);
    if (opened == NULL && why == NULL) why = open == NULL ? "it is no core" : "it does not say why";
  }
  if (opened == NULL)
    slimccl_warn(
        "%s cannot serve (%s): NCCL calls stay exact. Install both files of one build "
        "beside each other, or set SLIMCCL_OVERLAY=off",
        path == NULL ? "libslimccl-core.so" : path, why == NULL ? "no memory" : why);
  free(path);
  return opened;
}

const struct slimccl_overlay* slimccl_core(void) {
  if (atomic_load_explicit(&settled, memory_order_acquire)) return core;
  if (!slimccl_acquire(&lock)) return NULL; /* this one call is exact */
  if (!atomic_load_explicit(&settled, memory_order_relaxed)) {
    core = load();
    atomic_store_explicit(&settled, true, memory_order_release);
  }
  slimccl_release(&lock);
  return core;
}
