/* An optimiser as the library sees it. */
#ifndef OPTIM_OPTIMIZER_H
#define OPTIM_OPTIMIZER_H

#include "fonio/optim.h"
#include "tensor/tensor.h"

#define OPTIM_MOST_BUFFERS 3

/* A parameter, and what is kept of it. */
typedef struct optim_slot {
  char *name;
  fonio_tensor *parameter;
  fonio_tensor *buffers[OPTIM_MOST_BUFFERS]; /* like the parameter; NULL until the first step */
  fonio_tensor *gradient;                    /* where .grad has to be changed before it is used; or NULL */
  fonio_tensor *step;                        /* float32, no dimensions: torch's count of steps; made with the buffers */
} optim_slot;

/* What optimisers of one kind have in common. */
typedef struct optim_kind {
  const char *buffers[OPTIM_MOST_BUFFERS + 1];   /* names; ends with NULL */
  bool counts;                                   /* keeps the number of steps */
  int (*used)(const fonio_optimizer *optimizer); /* how many of the buffers */
  bool (*changes_gradient)(const fonio_optimizer *optimizer);

  /* One step of a slot whose parameter has a .grad. `first`: the buffers are new, and zero. Cannot fail. */
  void (*step)(fonio_optimizer *optimizer, optim_slot *slot, bool first);
} optim_kind;

struct fonio_optimizer {
  const optim_kind *kind;
  optim_slot *slots;
  int64_t count;
  union {
    fonio_sgd_options sgd;
    fonio_adam_options adam;
  };
  double *lr; /* in the options */
};

/* A new optimiser of the kind, without options; NULL with torch's texts. */
fonio_optimizer *optim_new(const optim_kind *kind, const fonio_dict *parameters);

/* Fails with torch's text, "Invalid <what>: <value>", unless value >= 0. */
fonio_status optim_check(const char *what, double value);

/* A float as Python prints it. */
typedef struct optim_text {
  char text[32];
} optim_text;
optim_text optim_number(double value);

#endif
