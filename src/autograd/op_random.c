/* Random numbers written into tensors. */
#include "autograd/node.h"
#include "base/error.h"
#include "tensor/random.h"

/* A finished write counts; a failed one was none. */
static fonio_status note_write(fonio_tensor *tensor, fonio_status status) {
  if (!status) tensor_touch(tensor);
  return status;
}

fonio_status fonio_generator_uniform(fonio_generator *generator, fonio_tensor *tensor, double from, double to) {
  if (!generator || !tensor) return fail_given_null("fonio_generator_uniform");
  fonio_status status = autograd_check_writable(tensor);
  return status ? status : note_write(tensor, random_uniform(generator, tensor, from, to));
}

fonio_status fonio_generator_normal(fonio_generator *generator, fonio_tensor *tensor, double mean, double std) {
  if (!generator || !tensor) return fail_given_null("fonio_generator_normal");
  fonio_status status = autograd_check_writable(tensor);
  return status ? status : note_write(tensor, random_normal(generator, tensor, mean, std));
}

fonio_status fonio_generator_random(fonio_generator *generator, fonio_tensor *tensor, int64_t from, int64_t to) {
  if (!generator || !tensor) return fail_given_null("fonio_generator_random");
  fonio_status status = autograd_check_writable(tensor);
  return status ? status : note_write(tensor, random_integers(generator, tensor, from, to));
}

fonio_status fonio_tensor_uniform(fonio_tensor *tensor, double from, double to) {
  return fonio_generator_uniform(fonio_generator_default(), tensor, from, to);
}

fonio_status fonio_tensor_normal(fonio_tensor *tensor, double mean, double std) {
  return fonio_generator_normal(fonio_generator_default(), tensor, mean, std);
}

fonio_status fonio_tensor_random(fonio_tensor *tensor, int64_t from, int64_t to) {
  return fonio_generator_random(fonio_generator_default(), tensor, from, to);
}
