#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What is there already where a file is to go. */
typedef struct place {
  bool taken;
  mode_t mode; /* of the file that is there: kind and permissions */
} place;

/* Finds the file that `path` leads to through symbolic links, if there is one; false, with errno set, on failure. */
static bool find_target(const char *path, char target[PATH_MAX], place *found) {
  struct stat status;
  *found = (place){0};
  if (stat(path, &status) == 0) {
    *found = (place){true, status.st_mode};
    return realpath(path, target) != NULL;
  }
  if (errno != ENOENT) return false;
  if (strlen(path) >= PATH_MAX) {
    errno = ENAMETOOLONG;
    return false;
  }
  strcpy(target, path);
  return true;
}

/* Makes a new file beside the target under a name that no other process or thread picks; its descriptor, or -1. */
static int open_temporary(file_writer *writer) {
  static _Atomic unsigned count;
  for (int tries = 0; tries < 100; tries++) {
    int length = snprintf(writer->temporary, sizeof writer->temporary, "%s.%ld-%u.part", writer->target, (long)getpid(),
                          atomic_fetch_add(&count, 1));
    if (length < 0 || (size_t)length >= sizeof writer->temporary) {
      errno = ENAMETOOLONG;
      return -1;
    }
    int descriptor = open(writer->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor >= 0 || errno != EEXIST) return descriptor;
  }
  return -1;
}

/* A file that may not be written to is not replaced either; one that is replaced hands its permissions on. */
static int open_for_writing(file_writer *writer, const char *path) {
  place found;
  writer->temporary[0] = 0;
  if (!find_target(path, writer->target, &found)) return -1;
  if (found.taken && !S_ISREG(found.mode)) return open(writer->target, O_WRONLY | O_CLOEXEC);
  if (found.taken && access(writer->target, W_OK) != 0) return -1;
  int descriptor = open_temporary(writer);
  if (descriptor >= 0 && found.taken) fchmod(descriptor, found.mode & 07777);
  return descriptor;
}

fonio_status file_writer_begin(file_writer *writer, const char *path) {
  int descriptor = open_for_writing(writer, path);
  if (descriptor < 0) return file_fail(errno, path);
  writer->stream = fdopen(descriptor, "wb");
  if (writer->stream) return FONIO_OK;
  fonio_status status = file_fail(errno, path);
  close(descriptor);
  if (writer->temporary[0]) unlink(writer->temporary);
  return status;
}

bool file_writer_write(file_writer *writer, const void *data, size_t bytes) {
  if (fwrite(data, 1, bytes, writer->stream) == bytes) return true;
  file_fail(errno, writer->target);
  return false;
}

void file_writer_abandon(file_writer *writer) {
  if (writer->stream) fclose(writer->stream);
  writer->stream = NULL;
  if (writer->temporary[0]) unlink(writer->temporary);
}

/* Closes the stream, its bytes on the disk; a pipe or a device need not know fsync. */
static bool close_stream(file_writer *writer) {
  bool done = fflush(writer->stream) == 0 && (!writer->temporary[0] || fsync(fileno(writer->stream)) == 0);
  int error = errno;
  done = fclose(writer->stream) == 0 && done;
  writer->stream = NULL;
  if (!done && error) errno = error;
  return done;
}

fonio_status file_writer_finish(file_writer *writer) {
  if (close_stream(writer) && (!writer->temporary[0] || rename(writer->temporary, writer->target) == 0))
    return FONIO_OK;
  fonio_status status = file_fail(errno, writer->target);
  file_writer_abandon(writer);
  return status;
}
