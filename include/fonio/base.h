/* Status and messages, memory, instruction sets, threads: what every other header stands on. */
#ifndef FONIO_BASE_H
#define FONIO_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Marks a function of the public interface. */
#define FONIO_API __attribute__((visibility("default")))

/* Marks a public function whose result belongs to the caller, who releases it. A pointer from a function without this
 * mark is borrowed: it lives as long as the object that it was asked of, and is not released. */
#define FONIO_NEW __attribute__((visibility("default"), warn_unused_result))

/* "As the first": the default of the second number of a pair, so that `.stride = 2` means (2, 2). */
#define FONIO_BOTH INT64_MIN

/* A struct of options from defaults and overriding designators. The pragmas keep the compiler from warning, on the
 * user's line, of the two things that make it work: an initialiser that is given twice, and `.stride = 2` for an array.
 */
#define FONIO_WITH_DEFAULTS(type, defaults, ...)                                                                       \
  __extension__({                                                                                                      \
    _Pragma("GCC diagnostic push")                                                                                     \
    _Pragma("GCC diagnostic ignored \"-Wpragmas\"")                                                                    \
    _Pragma("GCC diagnostic ignored \"-Woverride-init\"")                                                              \
    _Pragma("GCC diagnostic ignored \"-Wmissing-braces\"")                                                             \
    _Pragma("GCC diagnostic ignored \"-Wunknown-warning-option\"")                                                     \
    _Pragma("GCC diagnostic ignored \"-Winitializer-overrides\"")                                                      \
    type fonio_options_ = {.struct_bytes = sizeof(type), defaults, __VA_ARGS__};                                       \
    _Pragma("GCC diagnostic pop")                                                                                      \
    fonio_options_;                                                                                                    \
  })

/* ---- Version ---- */

#define FONIO_VERSION_MAJOR 0
#define FONIO_VERSION_MINOR 1
#define FONIO_VERSION_PATCH 0

/* The version of the library that is loaded, such as "0.1.0". Static text. */
FONIO_API const char *fonio_version(void);

/* ---- Status and message ----
 *
 * A function that can fail returns a status, or a pointer that is NULL on failure. Its message is then
 * fonio_last_error(), in PyTorch's words where PyTorch has words for it. A failed call leaves its outputs as they were
 * and loses nothing.
 *
 * A function that is given NULL where it needs an object returns NULL or the status of the call that failed before, and
 * keeps that message: calls can be chained, and one check at the end tells the first fault. */

/* The kinds of failure, named after the exceptions that PyTorch raises. The numbers never change. */
typedef enum fonio_status {
  FONIO_OK = 0,
  FONIO_NO_MEMORY = 1,
  FONIO_VALUE_ERROR = 2,
  FONIO_TYPE_ERROR = 3,
  FONIO_RUNTIME_ERROR = 4,
  FONIO_INDEX_ERROR = 5,
  FONIO_KEY_ERROR = 6,
  FONIO_NOT_IMPLEMENTED = 7,
  FONIO_IO_ERROR = 8
} fonio_status;

/* The message of this thread's last failure; "" when there was none. Valid until the thread's next failure or
 * fonio_clear_error(). One of 1024 characters or more takes a block of the library's memory until then. */
FONIO_API const char *fonio_last_error(void);

/* The status of this thread's last failure; FONIO_OK when there was none, or after fonio_clear_error(). */
FONIO_API fonio_status fonio_last_status(void);

/* Forgets this thread's last failure. */
FONIO_API void fonio_clear_error(void);

/* The name of a status: "ValueError", "RuntimeError", ... as Python has it; "Ok"; "Unknown" for any other number. */
FONIO_API const char *fonio_status_name(fonio_status status);

/* Notes a failure of the calling thread, as printf does, and returns `status`: for libraries that stand on this one, so
 * that a user meets one kind of error only:  return fonio_fail(FONIO_IO_ERROR, "%s: no picture", path); */
FONIO_API fonio_status fonio_fail(fonio_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* For a function that was given NULL where it needs an object: keeps the failure that the NULL came from and returns
 * its status; if there was none, notes a TypeError that names `function`. */
FONIO_API fonio_status fonio_fail_given_null(const char *function);

/* ---- Warnings ---- */

/* Called with each warning that PyTorch would give. */
typedef void (*fonio_warning_handler)(const char *message, void *user);

/* Sends the warnings of the whole process to `handler`; NULL brings the default back, which writes the text to stderr
 * as "Warning: ...". Takes effect for the next warning of any thread. */
FONIO_API void fonio_set_warning_handler(fonio_warning_handler handler, void *user);

/* ---- Log ---- */

/* Called with one line, without its end, for each run of a convolution: problem string, direction, algorithm, how many
 * threads took part at the most, milliseconds, GFLOP/s. Comes on the thread that made the call, when it is done. */
typedef void (*fonio_log_handler)(const char *line, void *user);

/* Sends the log of the whole process to `handler`, which also turns it on. NULL brings the default back: if the
 * environment's FONIO_VERBOSE is something other than 0, lines go to stderr as "fonio: ...". A log that is off costs
 * nothing. Takes effect for the next run of any thread. */
FONIO_API void fonio_set_log_handler(fonio_log_handler handler, void *user);

/* ---- Memory ----
 *
 * Without an allocator of the host's, large blocks that are given back (64 KiB to 64 MiB) are kept for whoever takes
 * the next one: 64 MiB in all at the most, of which no count knows. fonio_set_allocator gives them to the system. */

/* A host's own memory functions. `allocate` returns `bytes` bytes aligned to `alignment` (a power of two), or NULL. */
typedef struct fonio_allocator {
  void *(*allocate)(size_t alignment, size_t bytes, void *user);
  void (*release)(void *pointer, void *user);
  void *user;
} fonio_allocator;

/* Makes the library take all its memory from `allocator` (copied); NULL brings the default back. FONIO_RUNTIME_ERROR
 * while any memory of the library is in use. Not to be called while another thread uses the library. */
FONIO_API fonio_status fonio_set_allocator(const fonio_allocator *allocator);

/* `bytes` bytes of the library's memory, aligned to 64; NULL with FONIO_NO_MEMORY. For libraries that stand on this
 * one: what they take is counted and comes from the host's allocator, too. Given back by fonio_memory_give. */
FONIO_NEW void *fonio_memory_take(size_t bytes);

/* Gives memory back; NULL is ignored. */
FONIO_API void fonio_memory_give(void *pointer);

/* How many blocks of memory the library holds in the whole process: 0 when everything made has been released. */
FONIO_API int64_t fonio_live_allocations(void);

/* ---- Instruction sets ---- */

/* The instruction set in use: "scalar", "avx2", "avx512" or "neon". The best that both the processor and the build
 * have; the environment's FONIO_ISA, read once at first use, may only lower it. Static text. */
FONIO_API const char *fonio_isa(void);

/* ---- Threads ----
 *
 * A convolution that is long enough (some 20 microseconds; some 7 where calls follow each other closely) is shared
 * among the calling thread and threads of the library's own, which start when first needed, sleep between calls and end
 * with the process. Results never depend on how many take part. Calls that come at once from several threads of the
 * host do not wait for one another: one of them has the library's threads, the others work alone. Where sharing does
 * not pay, as when another program took a core, fewer threads are used for a while.
 *
 * A process may fork at any time: the child starts threads of its own when it needs them. A program that
 * unloads the library (dlclose) ends its threads with it. */

/* Sets how many threads share a call, the calling one among them: torch.set_num_threads(threads), at most 256. Ends the
 * library's threads (1 leaves none), so it waits for the call that has them; must not be called by a
 * fonio_parallel_for. FONIO_RUNTIME_ERROR with torch's text when `threads` is less than 1. */
FONIO_API fonio_status fonio_set_num_threads(int threads);

/* How many threads share a call: torch.get_num_threads(). At first the environment's FONIO_NUM_THREADS, read once, or
 * else as many as the process may use cores (its affinity; torch counts physical cores). */
FONIO_API int fonio_num_threads(void);

/* A host's own way to use threads. Calls task(context, index) for each `index` from 0 to `tasks` - 1, on any threads,
 * at once or one after the other, and returns when all have returned. `tasks` is at most fonio_num_threads(). The tasks
 * share the work as they find it: one that starts late finds less or nothing to do. */
typedef void (*fonio_parallel_for)(int tasks, void (*task)(void *context, int index), void *context, void *user);

/* Makes the library call `function` with `user` in place of using threads of its own; NULL brings those back. Takes
 * effect for the next call of any thread; ends the library's threads, as fonio_set_num_threads does. */
FONIO_API void fonio_set_parallel_for(fonio_parallel_for function, void *user);

#ifdef __cplusplus
}
#endif

#endif
