/* Whole files: read at once, and written so that nothing half-written stays. */
#ifndef IO_FILE_H
#define IO_FILE_H

#include <limits.h>
#include <stdio.h>

#include <fonio/base.h>

/* A file's bytes, from fonio_memory_take. */
typedef struct file_bytes {
  unsigned char *data;
  size_t bytes;
} file_bytes;

/* Looks at the first bytes of a file and says whether the rest is worth reading: FONIO_OK or a failure. */
typedef fonio_status (*file_check)(const char *path, const unsigned char *head, size_t bytes);
#define FILE_HEAD_BYTES 16

/* Reads the file at `path` into `file`, whose data the caller gives back with fonio_memory_give. */
fonio_status file_read(const char *path, file_check check, file_bytes *file);

/* A file on its way: what is written goes to `temporary`, which takes the place of `target` in the end. */
typedef struct file_writer {
  FILE *stream;
  char target[PATH_MAX];
  char temporary[PATH_MAX]; /* "" where the target is no regular file and is written to directly */
} file_writer;

/* Begins a file. On success one of file_writer_finish and file_writer_abandon has to follow. */
fonio_status file_writer_begin(file_writer *writer, const char *path);

/* Writes; false on failure, noted with the file's name. */
bool file_writer_write(file_writer *writer, const void *data, size_t bytes);

/* Brings the file to the disk and into its place. On failure it is abandoned. */
fonio_status file_writer_finish(file_writer *writer);

/* Removes what was written so far. */
void file_writer_abandon(file_writer *writer);

/* Notes what the system says of a file, in Python's words: "No such file or directory: 'cat.png'". */
fonio_status file_fail(int error, const char *path);

#endif
