/* Same bits: of every algorithm, whoever shares the work, whatever else is in the batch and wherever the arrays lie; of
 * the strict ones, on every instruction set. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "fonio.h"

/* ---- A problem with its arrays, each of which may be moved within its block ---- */

enum { ROOM = 64 };

typedef struct array {
  char *block; /* ROOM bytes more than the elements take */
  char *data;
  int64_t elements;
} array;

typedef struct arrays {
  fonio_conv_problem problem;
  array input, weight, bias, residual, output, grad_output, grad_input, grad_weight, grad_bias;
} arrays;

static uint64_t random_state;

static double random_number(void) {
  random_state = random_state * 6364136223846793005u + 1442695040888963407u;
  return (double)(int64_t)(random_state >> 11) * 0x1p-52 - 1;
}

static void fill(array *a, fonio_dtype dtype, int64_t from, int64_t to, double value) {
  for (int64_t i = from; i < to; i++) {
    double x = isnan(value) ? value : random_number();
    if (dtype == FONIO_FLOAT32)
      ((float *)(void *)a->data)[i] = (float)x;
    else
      ((double *)(void *)a->data)[i] = x;
  }
}

static array array_new(fonio_dtype dtype, int64_t elements) {
  array a = {aligned_alloc(64, (size_t)(elements * (int64_t)fonio_dtype_bytes(dtype) + 2 * ROOM) / 64 * 64), NULL,
             elements};
  assert_non_null(a.block);
  a.data = a.block;
  fill(&a, dtype, 0, elements, 0);
  return a;
}

static size_t bytes_of(const arrays *all, const array *a) {
  return (size_t)a->elements * fonio_dtype_bytes(all->problem.dtype);
}

static void move(const arrays *all, array *a, size_t offset) {
  memmove(a->block + offset, a->data, bytes_of(all, a));
  a->data = a->block + offset;
}

static arrays arrays_for(const char *text) {
  arrays all;
  fonio_conv_problem *p = &all.problem;
  if (fonio_conv_problem_parse(p, text) != FONIO_OK) fail_msg("%s: %s", text, fonio_last_error());
  int64_t inputs = p->batch * p->in_channels * p->in_height * p->in_width;
  int64_t outputs = p->batch * p->out_channels * p->out_height * p->out_width;
  int64_t weights = p->out_channels * (p->in_channels / p->groups) * p->kernel_height * p->kernel_width;
  random_state = 1;
  all.input = array_new(p->dtype, inputs);
  all.weight = array_new(p->dtype, weights);
  all.bias = array_new(p->dtype, p->out_channels);
  all.residual = array_new(p->dtype, outputs);
  all.output = array_new(p->dtype, outputs);
  all.grad_output = array_new(p->dtype, outputs);
  all.grad_input = array_new(p->dtype, inputs);
  all.grad_weight = array_new(p->dtype, weights);
  all.grad_bias = array_new(p->dtype, p->out_channels);
  return all;
}

enum { ARRAYS = 9 };

static void list_arrays(arrays *all, array *list[ARRAYS]) {
  array *const each[ARRAYS] = {&all->input,       &all->weight,     &all->bias,        &all->residual, &all->output,
                               &all->grad_output, &all->grad_input, &all->grad_weight, &all->grad_bias};
  memcpy(list, each, sizeof each);
}

static void arrays_release(arrays *all) {
  array *list[ARRAYS];
  list_arrays(all, list);
  for (int i = 0; i < ARRAYS; i++)
    free(list[i]->block);
}

static fonio_conv_buffers buffers_of(const arrays *all) {
  return (fonio_conv_buffers){
      .input = all->input.data,
      .weight = all->weight.data,
      .bias = all->problem.has_bias ? all->bias.data : NULL,
      .residual = all->residual.data,
      .output = all->output.data,
      .grad_output = all->grad_output.data,
      .grad_input = all->grad_input.data,
      .grad_weight = all->grad_weight.data,
      .grad_bias = all->problem.has_bias ? all->grad_bias.data : NULL,
  };
}

/* ---- Results ---- */

/* What a plan of each direction writes. */
static uint64_t hash_of_array(uint64_t hash, const arrays *all, const array *a) {
  for (size_t i = 0; i < bytes_of(all, a); i++)
    hash = (hash ^ (unsigned char)a->data[i]) * 1099511628211u;
  return hash;
}

static uint64_t hash_of_results(const arrays *all, fonio_conv_direction direction) {
  uint64_t hash = 14695981039346656037u;
  if (direction == FONIO_CONV_FORWARD) return hash_of_array(hash, all, &all->output);
  if (direction == FONIO_CONV_INPUT_GRADIENT) return hash_of_array(hash, all, &all->grad_input);
  hash = hash_of_array(hash, all, &all->grad_weight);
  return all->problem.has_bias ? hash_of_array(hash, all, &all->grad_bias) : hash;
}

/* A plan of the algorithm; NULL where it cannot do the problem. */
static fonio_conv_plan *plan_for(const arrays *all, const char *algorithm, fonio_conv_direction direction) {
  return fonio_conv_plan_new(&all->problem, &(fonio_conv_plan_options){.struct_bytes = sizeof(fonio_conv_plan_options),
                                                                       .algorithm = algorithm,
                                                                       .direction = direction});
}

static uint64_t run(arrays *all, const fonio_conv_plan *plan, fonio_conv_direction direction) {
  fonio_conv_buffers buffers = buffers_of(all);
  if (fonio_conv_plan_run(plan, &buffers)) fail_msg("%s", fonio_last_error());
  return hash_of_results(all, direction);
}

static void assert_same(uint64_t expected, uint64_t got, const char *problem, const char *algorithm, const char *what,
                        int number) {
  if (expected != got) fail_msg("%s with %s: other bits with %s %d", problem, algorithm, what, number);
}

/* Calls `check` with every plan that there is for the problem. */
static void with_every_plan(const char *text, void check(arrays *all, const fonio_conv_plan *plan,
                                                         fonio_conv_direction direction, const char *text)) {
  arrays all = arrays_for(text);
  const char *algorithm;
  int plans = 0;
  for (int i = 0; (algorithm = fonio_conv_algorithm_name(i)); i++)
    for (int direction = 0; direction < 3; direction++) {
      fonio_conv_plan *plan = plan_for(&all, algorithm, (fonio_conv_direction)direction);
      if (!plan) continue;
      check(&all, plan, (fonio_conv_direction)direction, text);
      fonio_conv_plan_release(plan);
      plans++;
    }
  assert_true(plans >= 4);
  arrays_release(&all);
}

/* ---- Threads ---- */

/* The last task comes first, and so does all the work, with the workspace of the last thread. */
static void backwards(int tasks, void (*task)(void *context, int index), void *context, void *user) {
  (void)user;
  for (int i = tasks - 1; i >= 0; i--)
    task(context, i);
}

static void whoever_shares_the_work(arrays *all, const fonio_conv_plan *plan, fonio_conv_direction direction,
                                    const char *text) {
  fonio_set_num_threads(1);
  uint64_t alone = run(all, plan, direction);
  static const int threads[] = {2, 3, 7};
  for (int i = 0; i < 3; i++) {
    fonio_set_num_threads(threads[i]);
    assert_same(alone, run(all, plan, direction), text, fonio_conv_plan_algorithm(plan), "threads:", threads[i]);
  }
  fonio_set_parallel_for(backwards, NULL);
  assert_same(alone, run(all, plan, direction), text, fonio_conv_plan_algorithm(plan), "threads backwards:", 7);
  fonio_set_parallel_for(NULL, NULL);
}

/* So large that threads do share them. */
static const char *const large[] = {
    "n5c16h30w31k24r3s3p1",
    "n5c3h40w41k24r5s5u2p2lnhwc",
    "n5c48h28w29k48r3s3p1g48",
    "n5c40h13w14k72r1s1tf64",
    "n5c6h20w21k12r3s3p1,2,2,1d2g2mreflect",
    "n3c32h17w19k32r3s3p1g32lnhwc",
    "n3c64h13w12k12r3s3p6d6z1",
};

static void threads_do_not_matter(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof large / sizeof *large; i++)
    with_every_plan(large[i], whoever_shares_the_work);
  fonio_set_num_threads(1);
}

/* ---- The batch ---- */

/* One image of the batch by itself; of nhwc and nchw arrays alike the images follow each other. */
static uint64_t run_alone(const arrays *batch, int64_t image, const char *algorithm, fonio_conv_direction direction) {
  arrays one = *batch;
  array *list[ARRAYS];
  list_arrays(&one, list);
  int64_t images = batch->problem.batch;
  one.problem.batch = 1;
  for (int i = 0; i < ARRAYS; i++) {
    if (list[i] == &one.weight || list[i] == &one.bias || list[i] == &one.grad_weight || list[i] == &one.grad_bias)
      continue;
    list[i]->elements /= images;
    list[i]->data += image * (int64_t)bytes_of(&one, list[i]);
  }
  fonio_conv_plan *plan = plan_for(&one, algorithm, direction);
  assert_non_null(plan);
  uint64_t hash = run(&one, plan, direction);
  fonio_conv_plan_release(plan);
  return hash;
}

static uint64_t hash_of_image(const arrays *all, fonio_conv_direction direction, int64_t image) {
  arrays one = *all;
  array *result = direction == FONIO_CONV_FORWARD ? &one.output : &one.grad_input;
  result->elements /= all->problem.batch;
  result->data += image * (int64_t)bytes_of(&one, result);
  return hash_of_results(&one, direction);
}

/* The first and the last image are cut off, then all but the third are made nan. */
static void whatever_else_is_in_the_batch(arrays *all, const fonio_conv_plan *plan, fonio_conv_direction direction,
                                          const char *text) {
  if (direction == FONIO_CONV_WEIGHT_GRADIENT) return; /* a sum over the batch */
  const char *algorithm = fonio_conv_plan_algorithm(plan);
  int64_t images = all->problem.batch;
  uint64_t together[5];
  run(all, plan, direction);
  for (int64_t i = 0; i < images; i++)
    together[i] = hash_of_image(all, direction, i);
  for (int64_t i = 0; i < images; i++)
    assert_same(together[i], run_alone(all, i, algorithm, direction), text, algorithm, "a batch of 1: image", (int)i);
  array *source = direction == FONIO_CONV_FORWARD ? &all->input : &all->grad_output;
  int64_t elements = source->elements / images;
  random_state = 2;
  char *kept = malloc(bytes_of(all, source));
  memcpy(kept, source->data, bytes_of(all, source));
  fill(source, all->problem.dtype, 0, 2 * elements, NAN);
  fill(source, all->problem.dtype, 3 * elements, images * elements, NAN);
  run(all, plan, direction);
  assert_same(together[2], hash_of_image(all, direction, 2), text, algorithm, "nan in all images but", 2);
  memcpy(source->data, kept, bytes_of(all, source));
  free(kept);
}

static void the_batch_does_not_matter(void **state) {
  (void)state;
  static const char *const problems[] = {
      "n5c5h9w11k7r3s3p1",   "n5c3h12w13k6r5s5u2p2lnhwc",   "n5c12h9w10k12r3s3p1g12",
      "n5c9h7w7k11r1s1tf64", "n5c4h8w9k6r3s3p1mcircularg2", "n5c12h9w10k12r3s3p1g12lnhwc",
  };
  for (size_t i = 0; i < sizeof problems / sizeof *problems; i++)
    with_every_plan(problems[i], whatever_else_is_in_the_batch);
}

/* ---- Addresses ---- */

/* All arrays at one offset, then each at another. */
static void wherever_the_arrays_lie(arrays *all, const fonio_conv_plan *plan, fonio_conv_direction direction,
                                    const char *text) {
  array *list[ARRAYS];
  list_arrays(all, list);
  size_t element = fonio_dtype_bytes(all->problem.dtype);
  uint64_t aligned = run(all, plan, direction);
  for (size_t offset = 0; offset < ROOM; offset += element)
    for (int apart = 0; apart < 2; apart++) {
      for (size_t i = 0; i < ARRAYS; i++)
        move(all, list[i], (offset + (apart ? i * 3 * element : 0)) % ROOM);
      assert_same(aligned, run(all, plan, direction), text, fonio_conv_plan_algorithm(plan), "an offset of",
                  (int)offset);
    }
  for (size_t i = 0; i < ARRAYS; i++)
    move(all, list[i], 0);
}

static void addresses_do_not_matter(void **state) {
  (void)state;
  static const char *const problems[] = {
      "n1c5h9w11k7r3s3p1",      "n1c5h9w11k7r3s3p1tf64",       "n1c5h9w11k7r3s3p1lnhwc",
      "n1c18h9w19k18r3s3p1g18", "n1c18h9w19k18r3s3p1g18lnhwc", "n1c6h8w40k9r1s1",
      "n1c3h20w21k10r5s5u2p2",  "n1c4h9w9k8r3s3p1z1arelu",     "n1c2h9w21k6r3s3p1",
  };
  for (size_t i = 0; i < sizeof problems / sizeof *problems; i++)
    with_every_plan(problems[i], wherever_the_arrays_lie);
}

/* ---- Instruction sets ---- */

static const char *const strict[] = {
    "n2c16h14w15k24r3s3p1",
    "n1c3h40w41k10r5s5u2p2lnhwc",
    "n1c48h10w9k48r3s3p1g48",
    "n1c40h13w14k70r1s1tf64",
    "n1c6h20w21k12r3s3p1,2,2,1d2g2mreflect",
    "n1c9h10w11k18r3s3p1g9lnhwc",
    "n1c1h28w28k6r5s5p2",
    "n2c3h33w32k17r4s4u2p1tf64",
    "n1c130h7w7k33r3s3p1mcircular",
    "n1c5h12w70k7r1s3u1,2p0,1lnhwc",
    "n1c8h9w9k8r3s3p1z1arelu",
    "n2c20h15w16k24r3s3u2p1",
    "n1c20h15w17k24r2s4u3,2p1,0d2lnhwc",
    "n2c65h13w14k10r3s3p5d5",
    "n1c64h5w6k9r3s3p9d7",
    "n2c32h9w10k32r3s3p1g8z1arelulnhwc",
    "n2c17h31w29k23r3s5u2,1p1,2d1,2",
    "n1c2h22w29k15r3s3",
    "n1c3h11w39k20r5s5u1,2p2lnhwc",
    "n1c3h64w57k9r3s3p1z1arelu",
};

static void print_hash(arrays *all, const char *text, fonio_conv_direction direction) {
  fonio_conv_plan *plan = plan_for(all, NULL, direction);
  uint64_t hash = run(all, plan, direction);
  fonio_conv_plan_release(plan);
  const char *algorithm;
  for (int i = 0; (algorithm = fonio_conv_algorithm_name(i)); i++) {
    bool is_strict = strncmp(algorithm, "winograd", 8) != 0 && strcmp(algorithm, "columns") != 0 &&
                     strcmp(algorithm, "planes_weight_gradient") != 0;
    plan = is_strict ? plan_for(all, algorithm, direction) : NULL;
    if (!plan) continue;
    assert_same(hash, run(all, plan, direction), text, algorithm, fonio_isa(), 0);
    fonio_conv_plan_release(plan);
  }
  printf("%s %016llx\n", text, (unsigned long long)hash);
}

/* What the planner takes and what each strict algorithm makes of it. */
static void print_hashes(void) {
  printf("%s\n", fonio_isa());
  fonio_set_accuracy(FONIO_ACCURACY_STRICT);
  for (size_t i = 0; i < sizeof strict / sizeof *strict; i++) {
    arrays all = arrays_for(strict[i]);
    print_hash(&all, strict[i], FONIO_CONV_FORWARD);
    for (int direction = FONIO_CONV_INPUT_GRADIENT; direction <= FONIO_CONV_WEIGHT_GRADIENT; direction++)
      if (!all.problem.has_residual) print_hash(&all, strict[i], (fonio_conv_direction)direction);
    arrays_release(&all);
  }
}

/* What this program prints with that instruction set: its name, a line, and the hashes. */
static void hashes_with(const char *isa, char *text, size_t bytes) {
  char command[4096 + 64], path[4096];
  ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
  assert_true(length > 0);
  path[length] = 0;
  snprintf(command, sizeof command, "FONIO_ISA=%s '%s' --hashes", isa, path);
  FILE *child = popen(command, "r");
  assert_non_null(child);
  text[fread(text, 1, bytes - 1, child)] = 0;
  assert_int_equal(pclose(child), 0);
}

static void instruction_sets_do_not_matter_where_it_is_strict(void **state) {
  (void)state;
  static const char *const isas[] = {"avx2", "avx512", "neon"};
  char scalar[4096], other[4096];
  hashes_with("scalar", scalar, sizeof scalar);
  assert_int_equal(strncmp(scalar, "scalar\n", 7), 0);
  for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
    hashes_with(isas[i], other, sizeof other);
    size_t length = strlen(isas[i]);
    if (strncmp(other, isas[i], length) != 0) continue; /* this machine or this build has it not */
    print_message("%s as scalar\n", isas[i]);
    assert_string_equal(other + length, scalar + strlen("scalar"));
  }
}

int main(int argc, char **argv) {
  if (argc > 1 && strcmp(argv[1], "--hashes") == 0) return print_hashes(), 0;
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(threads_do_not_matter),
      cmocka_unit_test(the_batch_does_not_matter),
      cmocka_unit_test(addresses_do_not_matter),
      cmocka_unit_test(instruction_sets_do_not_matter_where_it_is_strict),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
