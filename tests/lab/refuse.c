/* For LD_PRELOAD: has one call fail with an errno for files whose path holds a text.
 * REFUSE="CALL ERRNO TEXT", CALL being open, read, write, flock or close; with ERRNO 0 it hangs. "close" is how a network file system tells of a
 * quota: all that was written is lost, and only close and fsync say so. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static int refused(const char *call, const char *path) {
  char wanted[16], text[256];
  int number;
  const char *of = getenv("REFUSE");
  if (!of || !path || sscanf(of, "%15s %d %255s", wanted, &number, text) != 3) return 0;
  if (strcmp(wanted, call) || !strstr(path, text)) return 0;
  while (number == 0) pause();
  errno = number;
  return 1;
}

static int refused_handle(const char *call, int handle) {
  char link[64], path[4096];
  int before = errno;
  snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) {
    errno = before;
    return 0;
  }
  path[length] = 0;
  if (refused(call, path)) return 1;
  errno = before;
  return 0;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define MODE                                             \
  mode_t mode = 0;                                       \
  if (flags & (O_CREAT | __O_TMPFILE)) {                 \
    va_list rest;                                        \
    va_start(rest, flags);                               \
    mode = va_arg(rest, mode_t);                         \
    va_end(rest);                                        \
  }

int open(const char *path, int flags, ...) { MODE return refused("open", path) ? -1 : REAL(open)(path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE return refused("open", path) ? -1 : REAL(open64)(path, flags, mode); }
int openat(int at, const char *path, int flags, ...) {
  MODE return refused("open", path) ? -1 : REAL(openat)(at, path, flags, mode);
}
int openat64(int at, const char *path, int flags, ...) {
  MODE return refused("open", path) ? -1 : REAL(openat64)(at, path, flags, mode);
}
int __open64_2(const char *path, int flags) { return refused("open", path) ? -1 : REAL(open64)(path, flags); }
DIR *opendir(const char *path) { return refused("open", path) ? NULL : REAL(opendir)(path); }
ssize_t read(int handle, void *into, size_t count) {
  return refused_handle("read", handle) ? -1 : REAL(read)(handle, into, count);
}
ssize_t readv(int handle, const struct iovec *into, int count) {
  return refused_handle("read", handle) ? -1 : REAL(readv)(handle, into, count);
}
ssize_t write(int handle, const void *from, size_t count) {
  return refused_handle("write", handle) ? -1 : REAL(write)(handle, from, count);
}
ssize_t pwrite(int handle, const void *from, size_t count, off_t at) {
  return refused_handle("write", handle) ? -1 : REAL(pwrite)(handle, from, count, at);
}
ssize_t pwrite64(int handle, const void *from, size_t count, off64_t at) {
  return refused_handle("write", handle) ? -1 : REAL(pwrite64)(handle, from, count, at);
}
int flock(int handle, int operation) {
  return refused_handle("flock", handle) ? -1 : REAL(flock)(handle, operation);
}
int close(int handle) {
  int flags = fcntl(handle, F_GETFL);
  if (flags >= 0 && (flags & O_ACCMODE) != O_RDONLY && refused_handle("close", handle)) {
    int number = errno;
    if (REAL(ftruncate)(handle, 0) || REAL(close)(handle)) return -1;
    errno = number;
    return -1;
  }
  return REAL(close)(handle);
}
int fsync(int handle) { return refused_handle("close", handle) ? -1 : REAL(fsync)(handle); }
