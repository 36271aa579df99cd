/* Looks at PyTorch's tensors for adamw.torch, as the class Walk of _walk.py does, in less time.
 *
 * It is built without headers of PyTorch and of Python. The functions of both that it calls come
 * from _native.py, which compares the answers with Python's before it uses them. */
#include <stddef.h>
#include <stdint.h>

/* A pointer to an at::Tensor: PyTorch's C interface calls it AtenTensorHandle. */
typedef const void *tensor;

/* A status is 0 unless an exception was thrown. */
struct functions {
  ptrdiff_t (*list_size)(const void *list);
  const void *(*list_item)(const void *list, ptrdiff_t index);
  tensor (*grad)(const void *impl);
  _Bool (*is_neg)(tensor);
  _Bool (*is_inference)(tensor);
  void (*bump_version)(tensor);
  int32_t (*is_defined)(tensor, _Bool *out);
  int32_t (*layout)(tensor, int32_t *out);
  int32_t (*dtype)(tensor, int32_t *out);
  int32_t (*device_type)(tensor, int32_t *out);
  int32_t (*device_index)(tensor, int32_t *out);
  int32_t (*dims)(tensor, int64_t *out);
  int32_t (*sizes)(tensor, const int64_t **out);
  int32_t (*strides)(tensor, const int64_t **out);
  int32_t (*data)(tensor, void **out);
  ptrdiff_t offset; /* of the at::Tensor in a tensor of Python */
  int32_t strided;  /* the layout of dense tensors */
};

struct facts {
  void *data;
  int64_t dims;
  const int64_t *sizes, *strides;
  int32_t dtype, device_type, device_index, reserved;
};

/* What _walk.py says of its fields and of the bits that `look` returns. */
struct walk {
  const struct functions *call;
  ptrdiff_t count;
  const char **params;  /* [count] tensors of Python */
  const char **watched; /* [count] tensors of Python, or null */
  const int32_t *slots; /* [count] */
  struct facts *kept;   /* [count] */
  int64_t *shapes;      /* the sizes and the strides of all that are watched */
  void **grads;         /* by slot */
};

enum { UNSEEN = -2, ABSENT = -1 };
enum { GRADS_MOVED = 1, PARAMS_MOVED = 2, OTHER_GRADS = 4, OTHER_PARAMS = 8 };

/* Finds out where and how a tensor lies, or returns 0 if its memory does not say what it is. */
static int see(const struct functions *call, tensor t, struct facts *out) {
  int32_t layout;
  return !call->layout(t, &layout) && layout == call->strided && !call->is_neg(t) &&
         !call->dtype(t, &out->dtype) && !call->device_type(t, &out->device_type) &&
         !call->device_index(t, &out->device_index) && !call->dims(t, &out->dims) &&
         !call->sizes(t, &out->sizes) && !call->strides(t, &out->strides) &&
         !call->data(t, &out->data);
}

/* Returns whether the elements have one type and order: strides count where there are several. */
static int alike(const struct facts *a, const struct facts *b) {
  if (a->dtype != b->dtype || a->device_type != b->device_type ||
      a->device_index != b->device_index || a->dims != b->dims)
    return 0;
  for (int64_t i = 0; i < a->dims; i++)
    if (a->sizes[i] != b->sizes[i] || (a->sizes[i] != 1 && a->strides[i] != b->strides[i]))
      return 0;
  return 1;
}

static int is_empty(const struct facts *facts) {
  for (int64_t i = 0; i < facts->dims; i++)
    if (facts->sizes[i] == 0)
      return 1;
  return 0;
}

/* Keeps what the tensors are that are watched. Returns 0 if one of them cannot be watched. */
int32_t walk_note(const struct walk *walk) {
  const struct functions *call = walk->call;
  int64_t *shapes = walk->shapes;
  for (ptrdiff_t i = 0; i < walk->count; i++) {
    if (!walk->watched[i])
      continue;
    struct facts *kept = &walk->kept[i];
    if (!see(call, walk->watched[i] + call->offset, kept))
      return 0;
    for (int64_t j = 0; j < kept->dims; j++) {
      shapes[j] = kept->sizes[j];
      shapes[kept->dims + j] = kept->strides[j];
    }
    kept->sizes = shapes, kept->strides = shapes + kept->dims;
    shapes += 2 * kept->dims;
  }
  return 1;
}

/* Tensors lie anywhere in memory, and so take long to come from there: a few come together. A
 * processor waits for some dozens of lines at once, which four parameters with gradients have. */
enum { BLOCK = 4, LINE = 64, LINES = 4 };

static void fetch_tensor(const char *impl) {
  for (int line = 0; line < LINES; line++)
    __builtin_prefetch(impl + line * LINE);
}

/* The words of a tensor that point to its storage, and to what autograd knows of it. A version of
 * PyTorch that has them elsewhere would have nothing fetched, and wait longer. */
enum { STORAGE = 2, AUTOGRAD = 3 };

static void fetch_parts(const char *const *impl) {
  __builtin_prefetch(impl[STORAGE]), __builtin_prefetch(impl[STORAGE] + LINE - 1);
  __builtin_prefetch(impl[AUTOGRAD]), __builtin_prefetch(impl[AUTOGRAD] + LINE - 1);
}

/* Finds the gradients of parameters from `begin` to `end`, and has the memory of all fetched. */
static void fetch(const struct walk *walk, ptrdiff_t begin, ptrdiff_t end, tensor *grads) {
  const ptrdiff_t offset = walk->call->offset;
  for (ptrdiff_t i = begin; i < end; i++)
    fetch_tensor(*(const char *const *)(walk->params[i] + offset));
  for (ptrdiff_t i = begin; i < end; i++)
    fetch_parts(*(const char *const *const *)(walk->params[i] + offset));
  for (ptrdiff_t i = begin; i < end; i++)
    if (walk->slots[i] != UNSEEN)
      grads[i - begin] = walk->call->grad(*(const void *const *)(walk->params[i] + offset));
  for (ptrdiff_t i = begin; i < end; i++)
    if (walk->slots[i] != UNSEEN)
      fetch_tensor(*(const char *const *)grads[i - begin]);
  for (ptrdiff_t i = begin; i < end; i++)
    if (walk->slots[i] != UNSEEN)
      fetch_parts(*(const char *const *const *)grads[i - begin]);
}

/* Returns what is not as it was of the parameters from `begin` to `end` and of their gradients. */
static int32_t look_at(const struct walk *walk, ptrdiff_t begin, ptrdiff_t end,
                       const tensor *grads) {
  const struct functions *call = walk->call;
  int32_t seen = 0;
  for (ptrdiff_t i = begin; i < end; i++) {
    struct facts now, grad;
    if (walk->watched[i]) {
      if (!see(call, walk->watched[i] + call->offset, &now) || !alike(&now, &walk->kept[i]))
        return OTHER_GRADS;
      if (now.data != walk->kept[i].data)
        seen |= PARAMS_MOVED;
    }
    const int32_t slot = walk->slots[i];
    if (slot == UNSEEN)
      continue;
    const tensor found = grads[i - begin];
    _Bool is_defined;
    if (call->is_defined(found, &is_defined) || is_defined != (slot != ABSENT))
      return OTHER_GRADS;
    if (slot == ABSENT)
      continue;
    if (!see(call, found, &grad) || !alike(&grad, &now) || (!grad.data && !is_empty(&grad)))
      return OTHER_GRADS;
    if (walk->grads[slot] != grad.data) {
      walk->grads[slot] = grad.data;
      seen |= GRADS_MOVED;
    }
  }
  return seen;
}

/* Returns what is not as it was, and puts the addresses of gradients into their slots. */
int32_t walk_look(const struct walk *walk, const void *const *lists, ptrdiff_t num_lists) {
  const struct functions *call = walk->call;
  ptrdiff_t listed = 0;
  for (ptrdiff_t i = 0; i < num_lists; i++) {
    const ptrdiff_t size = call->list_size(lists[i]);
    for (ptrdiff_t j = 0; j < size; j++, listed++)
      if (listed == walk->count || call->list_item(lists[i], j) != walk->params[listed])
        return OTHER_PARAMS;
  }
  if (listed != walk->count)
    return OTHER_PARAMS;
  int32_t seen = 0;
  for (ptrdiff_t i = 0; i < walk->count && seen < OTHER_GRADS; i += BLOCK) {
    const ptrdiff_t end = i + BLOCK < walk->count ? i + BLOCK : walk->count;
    tensor grads[BLOCK];
    fetch(walk, i, end, grads);
    seen |= look_at(walk, i, end, grads);
  }
  return seen;
}

/* Counts a write to each parameter with a gradient for autograd. Inference tensors have no count. */
void walk_count(const struct walk *walk) {
  const struct functions *call = walk->call;
  for (ptrdiff_t i = 0; i < walk->count; i++) {
    const tensor param = walk->params[i] + call->offset;
    if (walk->slots[i] != ABSENT && !call->is_inference(param))
      call->bump_version(param);
  }
}
