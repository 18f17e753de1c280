/* The search for the real NCCL; docs/adr/0014 gives the order and its reasons. */
#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "known.h"

enum { kOldest = 21800 };
/* In every NCCL there ever was, and in every library that stands for one. */
static const char kProbe[] = "ncclGetUniqueId";

/* Where names are looked up: after the stub in the global scope, if `next`, then in `handle`. */
struct scope {
  bool next;
  void* handle;
};

/* Fills the dl_iterate_phdr loop's answer: the executable segment that holds `address`. */
struct segment {
  uintptr_t address, start, end;
  const char* file; /* "": the main program, or no library */
};

static int holds_address(struct dl_phdr_info* object, size_t size, void* data) {
  (void)size;
  struct segment* segment = data;
  for (int i = 0; i < object->dlpi_phnum; ++i) {
    const ElfW(Phdr)* header = &object->dlpi_phdr[i];
    const uintptr_t start = object->dlpi_addr + header->p_vaddr;
    if (header->p_type != PT_LOAD || segment->address < start ||
        segment->address - start >= header->p_memsz)
      continue;
    segment->start = start;
    segment->end = start + header->p_memsz;
    segment->file = object->dlpi_name;
    return 1;
  }
  return 0;
}

/* Whether the address lies in a stub: this one, or a second copy of its file. */
static bool is_stub(void* address) {
  Dl_info info;
  struct link_map* map = NULL;
  if (!dladdr1(address, &info, (void**)&map, RTLD_DL_LINKMAP) || map == NULL) return false;
  const char* strings = NULL;
  const ElfW(Dyn)* name = NULL;
  for (const ElfW(Dyn)* entry = map->l_ld; entry->d_tag != DT_NULL; ++entry) {
    if (entry->d_tag == DT_STRTAB) strings = (const char*)entry->d_un.d_ptr;
    if (entry->d_tag == DT_SONAME) name = entry;
  }
  return strings != NULL && name != NULL &&
         strcmp(strings + name->d_un.d_val, SLIMCCL_STUB_SONAME) == 0;
}

static void* look_up(const struct scope* scope, const char* name) {
  void* address = scope->next ? dlsym(RTLD_NEXT, name) : NULL;
  if (address != NULL && !is_stub(address)) return address;
  address = scope->handle != NULL ? dlsym(scope->handle, name) : NULL;
  return address != NULL && !is_stub(address) ? address : NULL;
}

/* Keeps a mapped library where it is, and gives its handle: what is known of it stays true. */
static void* pin(const char* file) { return dlopen(file, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE); }

/* An nvidia wheel's folder is known by any of its libraries that is mapped. */
struct wheel {
  char path[4096];
};

static int beside_wheel(struct dl_phdr_info* object, size_t size, void* data) {
  (void)size;
  struct wheel* wheel = data;
  const char* nvidia = strstr(object->dlpi_name, "/nvidia/");
  const char* file = strrchr(object->dlpi_name, '/');
  if (nvidia == NULL) return 0;
  const int root = (int)(nvidia - object->dlpi_name) + 8;
  const int folder = (int)(file - object->dlpi_name);
  snprintf(wheel->path, sizeof wheel->path, "%.*snccl/lib/libnccl.so.2", root, object->dlpi_name);
  if (access(wheel->path, R_OK) == 0) return 1;
  snprintf(wheel->path, sizeof wheel->path, "%.*s/libnccl.so.2", folder, object->dlpi_name);
  return access(wheel->path, R_OK) == 0;
}

static bool finds(struct scope* scope, void* handle) {
  scope->handle = handle;
  return look_up(scope, kProbe) != NULL;
}

/* A file named libnccl* or libslimccl* that defines NCCL itself. Another library that does has NCCL
 * inside of it, and calls it as anybody would. */
static bool is_nccl_itself(const struct segment* caller, void* handle) {
  const char* slash = strrchr(caller->file, '/');
  const char* name = slash == NULL ? caller->file : slash + 1;
  if (handle == NULL || (strncmp(name, "libnccl", 7) != 0 && strncmp(name, "libslimccl", 10) != 0))
    return false;
  const uintptr_t probe = (uintptr_t)dlsym(handle, kProbe);
  return probe >= caller->start && probe < caller->end;
}

/* Names that are not hooked go where the dynamic linker bound them: two copies in one program. */
static bool is_another(const struct scope* chosen, void* own) {
  const struct scope bound = {.next = true, .handle = own};
  void* address = look_up(&bound, "ncclGetVersion");
  return address != NULL && address != look_up(chosen, "ncclGetVersion");
}

static bool explicit_path(struct scope* scope, void* own) {
  static atomic_flag told = ATOMIC_FLAG_INIT;
  const char *path = getenv("SLIMCCL_NCCL"), *trouble = NULL;
  if (path == NULL || path[0] == '\0') return false;
  scope->next = false;
  const bool found = finds(scope, dlopen(path, RTLD_LAZY | RTLD_LOCAL | RTLD_NODELETE));
  if (scope->handle == NULL)
    trouble = dlerror();
  else if (!found)
    trouble = "it has no NCCL, or is this overlay; searching for another";
  else if (is_another(scope, own))
    trouble = "the program is bound to another copy, which calls that are not hooked will reach";
  if (trouble != NULL && !atomic_flag_test_and_set(&told))
    slimccl_warn("SLIMCCL_NCCL=%s: %s", path, trouble);
  return found;
}

/* What the caller is bound to, or the user wants. */
static bool bound(const struct segment* caller, struct scope* scope, bool* own_text) {
  void* own = caller->file[0] != '\0' ? pin(caller->file) : NULL;
  *own_text = is_nccl_itself(caller, own);
  scope->next = false;
  if (*own_text) return finds(scope, own);
  if (explicit_path(scope, own)) return true;
  scope->next = true;
  return finds(scope, own);
}

/* What there is for a caller that is bound to nothing. */
static bool unbound(struct scope* scope) {
  if (finds(scope, dlopen("libnccl.so.2", RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE))) return true;
  struct wheel wheel;
  if (dl_iterate_phdr(beside_wheel, &wheel) != 0 &&
      finds(scope, dlopen(wheel.path, RTLD_LAZY | RTLD_LOCAL | RTLD_NODELETE)))
    return true;
  return finds(scope, dlopen("libnccl.so.2", RTLD_LAZY | RTLD_LOCAL | RTLD_NODELETE));
}

static void fill(struct slimccl_copy* copy, const struct scope* scope) {
  struct slimccl_nccl* nccl = &copy->nccl;
#define SLIMCCL_FILL(NAME, ...) *(void**)&nccl->NAME = look_up(scope, "nccl" #NAME);
  SLIMCCL_HOOKS(SLIMCCL_FILL)
  SLIMCCL_FILL(GroupStart)
  SLIMCCL_FILL(GroupEnd)
  SLIMCCL_FILL(GetLastError)
  SLIMCCL_ASKED(SLIMCCL_FILL)
#undef SLIMCCL_FILL
  Dl_info info;
  nccl->path = "?";
  if (dladdr(*(void**)&nccl->GetUniqueId, &info) != 0) {
    nccl->path = info.dli_fname;
    pin(info.dli_fname);
  }
  if (nccl->GetVersion == NULL || nccl->GetVersion(&copy->version) != ncclSuccess)
    copy->version = 0;
  copy->exact = copy->version < kOldest;
}

struct slimccl_route slimccl_find(const void* caller) {
  struct slimccl_route route;
  if (slimccl_known((uintptr_t)caller, &route)) return route;
  struct segment segment = {.address = (uintptr_t)caller, .file = ""};
  dl_iterate_phdr(holds_address, &segment);
  struct scope scope = {0};
  bool own_text;
  if (!bound(&segment, &scope, &own_text)) {
    const struct slimccl_copy* used = slimccl_first();
    if (used != NULL) return slimccl_learn(segment.start, segment.end, used, false);
    if (!unbound(&scope)) return (struct slimccl_route){0};
  }
  struct slimccl_copy copy = {0};
  fill(&copy, &scope);
  return slimccl_learn(segment.start, segment.end, &copy, own_text);
}
