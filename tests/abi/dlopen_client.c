// Opens the library as torch's NCCL users do: by name, lazily and at once, one symbol at a time.
// Usage: dlopen_client LIBRARY EXPORTS. Exit code 0 when all is right.
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

typedef int (*get_version_t)(int* version);
typedef const char* (*get_error_string_t)(int result);

// Every name that the library should have; says which it has not.
static int resolve(void* library, const char* exports) {
  FILE* names = fopen(exports, "r");
  if (names == NULL) return 7;
  int missing = 0;
  char name[128];
  while (fgets(name, sizeof name, names) != NULL) {
    name[strcspn(name, "\n")] = '\0';
    if (name[0] == '#' || dlsym(library, name) != NULL) continue;
    fprintf(stderr, "%s is not there\n", name);
    missing = 8;
  }
  fclose(names);
  return missing;
}

static int use(const char* path, const char* exports, int flags) {
  void* library = dlopen(path, flags);
  if (library == NULL) {
    fprintf(stderr, "dlopen: %s\n", dlerror());
    return 1;
  }
  get_version_t get_version = (get_version_t)dlsym(library, "ncclGetVersion");
  get_error_string_t get_error_string = (get_error_string_t)dlsym(library, "ncclGetErrorString");
  if (get_version == NULL || get_error_string == NULL) return 2;
  int version = 0;
  if (get_version(&version) != 0 || version < 20000) return 3;
  if (get_error_string(0) == NULL) return 4;
  // Nothing of ours may leak into the process's names.
  if (dlsym(library, "_ZN7slimccl6configEv") != NULL) return 5;
  const int missing = resolve(library, exports);
  if (missing != 0) return missing;
  return dlclose(library) == 0 ? 0 : 6;
}

int main(int argc, char** argv) {
  if (argc != 3) return 10;
  int result = use(argv[1], argv[2], RTLD_LAZY | RTLD_LOCAL);
  if (result == 0) result = use(argv[1], argv[2], RTLD_NOW | RTLD_GLOBAL);
  if (result == 0) puts("dlopen_client: all right");
  return result;
}
