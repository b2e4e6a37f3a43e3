#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

fonio_status file_fail(int error, const char *path) {
  char text[128];
  return fonio_fail(FONIO_IO_ERROR, "%s: '%s'", strerror_r(error, text, sizeof text), path);
}

/* Reads until `bytes` are there or the file ends; false on failure, with errno set. */
static bool read_up_to(int descriptor, unsigned char *data, size_t bytes, size_t *got) {
  *got = 0;
  while (*got < bytes) {
    ssize_t count = read(descriptor, data + *got, bytes - *got);
    if (count == 0) return true;
    if (count < 0 && errno != EINTR) return false;
    if (count > 0) *got += (size_t)count;
  }
  return true;
}

/* How much to make room for at first. One byte more than a regular file has, so that its end is seen in the first go;
 * what is no regular file tells no size. */
static size_t first_guess(int descriptor) {
  struct stat status;
  bool sized = fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode) && status.st_size > 0;
  return sized ? (size_t)status.st_size + 1 : 65536;
}

static bool grow(file_bytes *file, size_t room) {
  unsigned char *larger = fonio_memory_take(room);
  if (!larger) return false;
  if (file->data) memcpy(larger, file->data, file->bytes);
  fonio_memory_give(file->data);
  file->data = larger;
  return true;
}

/* The first bytes alone at first, so that no room is made for what turns out not to be wanted. */
static fonio_status read_all(const char *path, int descriptor, file_check check, file_bytes *file) {
  size_t guess = first_guess(descriptor), got;
  for (size_t room = FILE_HEAD_BYTES;; room = room == FILE_HEAD_BYTES && guess > room ? guess : 2 * room) {
    if (!grow(file, room)) return fonio_last_status();
    if (!read_up_to(descriptor, file->data + file->bytes, room - file->bytes, &got)) return file_fail(errno, path);
    file->bytes += got;
    fonio_status status = room == FILE_HEAD_BYTES ? check(path, file->data, file->bytes) : FONIO_OK;
    if (status || file->bytes < room) return status;
  }
}

fonio_status file_read(const char *path, file_check check, file_bytes *file) {
  int descriptor = open(path, O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return file_fail(errno, path);
  file_bytes result = {0};
  fonio_status status = read_all(path, descriptor, check, &result);
  close(descriptor);
  if (status)
    fonio_memory_give(result.data);
  else
    *file = result;
  return status;
}
