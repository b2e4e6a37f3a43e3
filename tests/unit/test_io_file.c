/* Picture files: written whole or not at all, and messages that name the file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <dirent.h>
#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fonio.h"
#include "fonio/io.h"

static char folder[] = "/tmp/fonio_io_XXXXXX";

static const char *in_folder(const char *name) {
  static char paths[4][4200];
  static int turn;
  turn = (turn + 1) % 4;
  snprintf(paths[turn], sizeof paths[turn], "%s/%s", folder, name);
  return paths[turn];
}

static int files_in_folder(void) {
  DIR *directory = opendir(folder);
  int count = 0;
  for (struct dirent *entry; (entry = readdir(directory));)
    count += entry->d_name[0] != '.';
  closedir(directory);
  return count;
}

static int empty_folder(void **state) {
  (void)state;
  DIR *directory = opendir(folder);
  for (struct dirent *entry; (entry = readdir(directory));)
    if (entry->d_name[0] != '.') remove(in_folder(entry->d_name));
  closedir(directory);
  return fonio_live_allocations() != 0;
}

static int make_folder(void **state) {
  (void)state;
  return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state) {
  (void)state;
  return rmdir(folder);
}

static fonio_tensor *bytes_tensor(int ndim, const int64_t *shape) {
  fonio_tensor *tensor = fonio_tensor_empty(FONIO_UINT8, ndim, shape);
  unsigned char *values = fonio_tensor_data(tensor);
  for (int64_t i = 0; i < fonio_tensor_numel(tensor); i++)
    values[i] = (unsigned char)(37 * i * i + 11 * i);
  return tensor;
}

static void write_and_release(const char *path, fonio_tensor *tensor) {
  assert_non_null(tensor);
  if (fonio_picture_write_png(path, tensor)) fail_msg("%s", fonio_last_error());
  fonio_tensor_release(tensor);
}

static fonio_tensor *read_back(const char *path) {
  fonio_tensor *tensor = fonio_picture_read(path, FONIO_UINT8, 0);
  if (!tensor) fail_msg("%s", fonio_last_error());
  return tensor;
}

static void assert_same_and_release(fonio_tensor *a, fonio_tensor *b) {
  bool same = false;
  assert_int_equal(fonio_tensor_identical(a, b, &same), FONIO_OK);
  assert_true(same);
  fonio_tensor_release(a);
  fonio_tensor_release(b);
}

static void assert_message(fonio_status status, fonio_status expected, const char *words) {
  assert_int_equal(status, expected);
  if (!strstr(fonio_last_error(), words)) fail_msg("'%s' does not say '%s'", fonio_last_error(), words);
}

static void what_is_written_is_read(void **state) {
  (void)state;
  for (int64_t channels = 1; channels <= 4; channels++) {
    write_and_release(in_folder("a.png"), bytes_tensor(FONIO_SHAPE(channels, 5, 7)));
    assert_same_and_release(read_back(in_folder("a.png")), bytes_tensor(FONIO_SHAPE(channels, 5, 7)));
  }
  write_and_release(in_folder("a.png"), bytes_tensor(FONIO_SHAPE(5, 7)));
  assert_same_and_release(read_back(in_folder("a.png")), bytes_tensor(FONIO_SHAPE(1, 5, 7)));
  assert_int_equal(files_in_folder(), 1);
}

static void floats_are_clamped_and_rounded(void **state) {
  (void)state;
  const double values[] = {-INFINITY, -0.1, 0, 0.5 / 255 - 1e-6, 0.5 / 255 + 1e-6, 0.5, 1, 1.5, INFINITY, NAN};
  const unsigned char expected[] = {0, 0, 0, 0, 1, 128, 255, 255, 255, 0};
  static const fonio_dtype dtypes[] = {FONIO_FLOAT64, FONIO_FLOAT32};
  for (int i = 0; i < 2; i++) {
    fonio_tensor *doubles = fonio_tensor_from_data(FONIO_FLOAT64, values, FONIO_SHAPE(1, 2, 5));
    write_and_release(in_folder("f.png"), fonio_tensor_to(doubles, dtypes[i]));
    fonio_tensor_release(doubles);
    assert_same_and_release(read_back(in_folder("f.png")),
                            fonio_tensor_from_data(FONIO_UINT8, expected, FONIO_SHAPE(1, 2, 5)));
  }
}

static void views_and_tensors_with_gradients_are_written(void **state) {
  (void)state;
  fonio_tensor *rows = bytes_tensor(FONIO_SHAPE(5, 7, 3));
  write_and_release(in_folder("v.png"), fonio_tensor_permute(rows, FONIO_SHAPE(2, 0, 1)));
  fonio_tensor *planes = read_back(in_folder("v.png"));
  fonio_tensor *rows_again = fonio_tensor_permute(planes, FONIO_SHAPE(1, 2, 0));
  fonio_tensor_release(planes);
  assert_same_and_release(rows_again, rows);
  fonio_tensor *leaf = fonio_tensor_ones(FONIO_FLOAT32, FONIO_SHAPE(1, 2, 2));
  assert_int_equal(fonio_tensor_set_requires_grad(leaf, true), FONIO_OK);
  write_and_release(in_folder("v.png"), leaf);
}

static void tells_what_is_wrong_with_a_file(void **state) {
  (void)state;
  assert_null(fonio_picture_read(in_folder("none.png"), FONIO_UINT8, 0));
  assert_message(fonio_last_status(), FONIO_IO_ERROR, "No such file or directory: '/tmp/fonio_io_");
  assert_null(fonio_picture_read(folder, FONIO_UINT8, 0));
  assert_message(fonio_last_status(), FONIO_IO_ERROR, "Is a directory: '/tmp/fonio_io_");
  assert_null(fonio_picture_read("/dev/zero", FONIO_UINT8, 0));
  assert_message(fonio_last_status(), FONIO_IO_ERROR, "'/dev/zero' is neither a PNG nor a JPEG picture");
  assert_null(fonio_picture_read("/dev/null", FONIO_UINT8, 0));
  assert_message(fonio_last_status(), FONIO_IO_ERROR, "'/dev/null' is neither");
  write_and_release(in_folder("cut.png"), bytes_tensor(FONIO_SHAPE(3, 40, 40)));
  assert_int_equal(truncate(in_folder("cut.png"), 1000), 0);
  assert_null(fonio_picture_read(in_folder("cut.png"), FONIO_UINT8, 0));
  assert_message(fonio_last_status(), FONIO_IO_ERROR, "/cut.png' is a damaged PNG: the data ends too early");
}

static void tells_what_is_wrong_with_a_tensor(void **state) {
  (void)state;
  const char *path = in_folder("w.png");
  fonio_tensor *five = bytes_tensor(FONIO_SHAPE(5, 2, 2)), *none = bytes_tensor(FONIO_SHAPE(3, 0, 2));
  fonio_tensor *four = bytes_tensor(FONIO_SHAPE(1, 3, 2, 2)),
               *ints = fonio_tensor_zeros(FONIO_INT32, FONIO_SHAPE(2, 2));
  assert_message(fonio_picture_write_png(path, five), FONIO_VALUE_ERROR, "(channels, height, width)");
  assert_message(fonio_picture_write_png(path, none), FONIO_VALUE_ERROR, "(channels, height, width)");
  assert_message(fonio_picture_write_png(path, four), FONIO_VALUE_ERROR, "(channels, height, width)");
  assert_message(fonio_picture_write_png(path, ints), FONIO_TYPE_ERROR, "not from int32");
  fonio_clear_error();
  assert_message(fonio_picture_write_png(path, NULL), FONIO_TYPE_ERROR, "fonio_picture_write_png");
  assert_int_equal(files_in_folder(), 0);
  fonio_tensor_release(five);
  fonio_tensor_release(none);
  fonio_tensor_release(four);
  fonio_tensor_release(ints);
}

static void leaves_nothing_half_written(void **state) {
  (void)state;
  write_and_release(in_folder("big.png"), bytes_tensor(FONIO_SHAPE(3, 4, 4)));
  fonio_tensor *big = bytes_tensor(FONIO_SHAPE(3, 200, 200));
  /* A limit on the size of files stands for a full disk; the system also sends a signal, which is ignored here. */
  struct rlimit before, small = {0};
  getrlimit(RLIMIT_FSIZE, &before);
  small.rlim_cur = 1000;
  small.rlim_max = before.rlim_max;
  void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
  setrlimit(RLIMIT_FSIZE, &small);
  fonio_status status = fonio_picture_write_png(in_folder("big.png"), big);
  setrlimit(RLIMIT_FSIZE, &before);
  signal(SIGXFSZ, handler);
  assert_message(status, FONIO_IO_ERROR, "File too large: '/tmp/fonio_io_");
  assert_int_equal(files_in_folder(), 1);
  assert_same_and_release(read_back(in_folder("big.png")), bytes_tensor(FONIO_SHAPE(3, 4, 4)));
  assert_message(fonio_picture_write_png("/dev/full", big), FONIO_IO_ERROR, "No space left on device: '/dev/full'");
  assert_message(fonio_picture_write_png(folder, big), FONIO_IO_ERROR, "Is a directory: '/tmp/");
  assert_message(fonio_picture_write_png(in_folder("none/a.png"), big), FONIO_IO_ERROR, "No such file or directory: '");
  fonio_tensor_release(big);
}

static void replaces_what_a_link_points_to(void **state) {
  (void)state;
  struct stat status;
  write_and_release(in_folder("real.png"), bytes_tensor(FONIO_SHAPE(1, 2, 2)));
  assert_int_equal(chmod(in_folder("real.png"), 0640), 0);
  assert_int_equal(symlink("real.png", in_folder("link.png")), 0);
  write_and_release(in_folder("link.png"), bytes_tensor(FONIO_SHAPE(3, 2, 2)));
  assert_int_equal(lstat(in_folder("link.png"), &status), 0);
  assert_true(S_ISLNK(status.st_mode));
  assert_int_equal(lstat(in_folder("real.png"), &status), 0);
  assert_true(S_ISREG(status.st_mode));
  assert_int_equal(status.st_mode & 0777, 0640);
  assert_same_and_release(read_back(in_folder("real.png")), bytes_tensor(FONIO_SHAPE(3, 2, 2)));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(what_is_written_is_read, empty_folder),
      cmocka_unit_test_teardown(floats_are_clamped_and_rounded, empty_folder),
      cmocka_unit_test_teardown(views_and_tensors_with_gradients_are_written, empty_folder),
      cmocka_unit_test_teardown(tells_what_is_wrong_with_a_file, empty_folder),
      cmocka_unit_test_teardown(tells_what_is_wrong_with_a_tensor, empty_folder),
      cmocka_unit_test_teardown(leaves_nothing_half_written, empty_folder),
      cmocka_unit_test_teardown(replaces_what_a_link_points_to, empty_folder),
  };
  return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
