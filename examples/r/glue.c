/* What R needs of the library, for .Call. R's numbers are doubles and its objects move and die: the arrays are static here. */
#include <R.h>
#include <Rinternals.h>
#include <adamw.h>
#include <string.h>

enum { N = 64, NUM_ARRAYS = 4 };

static float arrays[NUM_ARRAYS][N];

/* R's errors leave by a long jump, which must not cross the library: they come after its calls. */
static void check(adamw_status status) {
  if (status != ADAMW_STATUS_OK) Rf_error("%s", adamw_last_error());
}

static adamw_optimizer *of(SEXP handle) { return R_ExternalPtrAddr(handle); }

struct filter {
  SEXP function;
  const char *name;
  int answer;
};

static void ask(void *data) {
  struct filter *filter = data;
  SEXP call = PROTECT(Rf_lang2(filter->function, PROTECT(Rf_mkString(filter->name))));
  filter->answer = Rf_asLogical(Rf_eval(call, R_GlobalEnv));
  UNPROTECT(2);
}

/* An error of R in the function is caught: the library counts a negative answer as a failure. */
static int32_t decays(const char *name, void *function) {
  struct filter filter = {function, name, -1};
  return R_ToplevelExec(ask, &filter) ? filter.answer : -1;
}

/* Also for optimizers that nobody destroys, or that an error has left. */
static void finalize(SEXP handle) {
  if (!of(handle)) return;
  adamw_status status = adamw_destroy(of(handle));
  R_ClearExternalPtr(handle);
  check(status);
}

SEXP new_optimizer(SEXP lr, SEXP filter) {
  adamw_optimizer *optimizer;
  check(adamw_create(NULL, &optimizer));
  SEXP handle = PROTECT(R_MakeExternalPtr(optimizer, R_NilValue, filter));
  R_RegisterCFinalizer(handle, finalize);
  check(adamw_set_lr(optimizer, Rf_asReal(lr)));
  check(adamw_set_decay_filter(optimizer, decays, filter));
  UNPROTECT(1);
  return handle;
}

SEXP add(SEXP handle, SEXP name, SEXP param, SEXP grad) {
  uint32_t number;
  check(adamw_add_array(of(handle), CHAR(STRING_ELT(name, 0)), arrays[Rf_asInteger(param)], N, ADAMW_DTYPE_F32, &number));
  check(adamw_set_grad_array(of(handle), number, arrays[Rf_asInteger(grad)], N, ADAMW_DTYPE_F32));
  return R_NilValue;
}

SEXP step(SEXP handle) {
  check(adamw_step(of(handle)));
  return R_NilValue;
}

SEXP save(SEXP handle, SEXP path) {
  check(adamw_save(of(handle), CHAR(STRING_ELT(path, 0))));
  return R_NilValue;
}

SEXP load(SEXP handle, SEXP path) {
  check(adamw_load(of(handle), CHAR(STRING_ELT(path, 0)), NULL));
  return R_NilValue;
}

SEXP destroy(SEXP handle) {
  finalize(handle);
  return R_NilValue;
}

SEXP read(SEXP array) {
  SEXP out = PROTECT(Rf_allocVector(REALSXP, N));
  for (int i = 0; i < N; i++) REAL(out)[i] = arrays[Rf_asInteger(array)][i];
  UNPROTECT(1);
  return out;
}

SEXP write(SEXP array, SEXP values) {
  for (int i = 0; i < N; i++) arrays[Rf_asInteger(array)][i] = (float)REAL(values)[i];
  return R_NilValue;
}

SEXP bytes(SEXP array) {
  SEXP out = PROTECT(Rf_allocVector(RAWSXP, sizeof arrays[0]));
  memcpy(RAW(out), arrays[Rf_asInteger(array)], sizeof arrays[0]);
  UNPROTECT(1);
  return out;
}
