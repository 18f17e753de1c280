// Does what its arguments say, one after the other:
//   NAME           calls ncclNAME, if calls.c is linked in
//   open FILE      dlopen, RTLD_LOCAL      close FILE   dlclose
//   in FILE NAME   the call, made by an open plugin
//   chdir FOLDER   threads NAME (the call in two threads at once)
//   fork           goes on in a child, whose exit code it takes
//   own NAME       calls slimcclNAME if there is one, as a trainer does
//   meanwhile NAME the call in a thread that is not waited for
//   state          prints open files, threads, and whether the core is mapped
#include <dirent.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

__attribute__((weak)) void make_call(const char* name);

static void* open_plugin(const char* file, int more) {
  void* handle = dlopen(file, RTLD_LAZY | RTLD_LOCAL | more);
  if (handle == NULL) {
    printf("dlopen: %s\n", dlerror());
    exit(3);
  }
  return handle;
}

static void in_plugin(const char* file, const char* name) {
  void* handle = open_plugin(file, RTLD_NOLOAD);
  void (*plugin)(const char*);
  *(void**)&plugin = dlsym(handle, "make_call");
  plugin(name);
  dlclose(handle);
}

static void close_plugin(const char* file) {
  void* handle = open_plugin(file, RTLD_NOLOAD);
  dlclose(handle);
  dlclose(handle);
}

static pthread_barrier_t barrier;
static void* call_at_once(void* name) {
  pthread_barrier_wait(&barrier);
  make_call(name);
  return NULL;
}

static void in_threads(char* name) {
  pthread_t threads[2];
  pthread_barrier_init(&barrier, NULL, 2);
  for (int i = 0; i < 2; ++i) pthread_create(&threads[i], NULL, call_at_once, name);
  for (int i = 0; i < 2; ++i) pthread_join(threads[i], NULL);
}

static void* call_alone(void* name) {
  make_call(name);
  return NULL;
}

static void begin(char* name) {
  pthread_t thread;
  pthread_create(&thread, NULL, call_alone, name);
  usleep(200000);
}

static void go_on_in_child(void) {
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) return;
  int status = 0;
  waitpid(child, &status, 0);
  _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 99);
}

// What it returned is told unless it is ncclSuccess.
static void call_own(const char* name) {
  char full[64];
  int (*own)(void);
  snprintf(full, sizeof full, "slimccl%s", name);
  *(void**)&own = dlsym(RTLD_DEFAULT, full);
  const int result = own == NULL ? -1 : own();
  if (result != 0) printf("%s returned %d\n", full, result);
}

static int entries(const char* folder) {
  int count = 0;
  DIR* entries = opendir(folder);
  for (struct dirent* entry; (entry = readdir(entries)) != NULL;) count += entry->d_name[0] != '.';
  closedir(entries);
  return count;
}

static void state(void) {
  char line[4096];
  const char *core = "not mapped", *cuda = "not mapped";
  FILE* maps = fopen("/proc/self/maps", "r");
  while (fgets(line, sizeof line, maps) != NULL) {
    if (strstr(line, "libslimccl-core") != NULL) core = "mapped";
    if (strstr(line, "libcuda") != NULL) cuda = "mapped";
  }
  fclose(maps);
  printf("files %d threads %d core %s cuda %s\n", entries("/proc/self/fd") - 1,
         entries("/proc/self/task"), core, cuda);
}

int main(int count, char** words) {
  for (char** word = words + 1; word < words + count; ++word) {
    if (strcmp(*word, "open") == 0)
      open_plugin(*++word, 0);
    else if (strcmp(*word, "close") == 0)
      close_plugin(*++word);
    else if (strcmp(*word, "in") == 0)
      in_plugin(word[1], word[2]), word += 2;
    else if (strcmp(*word, "chdir") == 0)
      count -= 1000 * (chdir(*++word) != 0);
    else if (strcmp(*word, "threads") == 0)
      in_threads(*++word);
    else if (strcmp(*word, "meanwhile") == 0)
      begin(*++word);
    else if (strcmp(*word, "own") == 0)
      call_own(*++word);
    else if (strcmp(*word, "fork") == 0)
      go_on_in_child();
    else if (strcmp(*word, "state") == 0)
      state();
    else
      make_call(*word);
    fflush(stdout);
  }
  return count < 0;
}
