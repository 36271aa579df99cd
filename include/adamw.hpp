// libadamw for C++17 and later: adamw.h with owners, exceptions and lambdas. Header only.
//
// Every failure throws an adamw::error with the status and the text of the library. An exception
// that a callback throws is carried across the C calls and rethrown unchanged by the method that
// led to it. Memory is borrowed as adamw.h describes: arrays that you pass still belong to you and
// must outlive their use.
//
// Compiled without exceptions (-fno-exceptions), every failure prints its text and aborts. Where
// you would catch an error, call adamw.h, with get() as the handle.
#ifndef ADAMW_HPP
#define ADAMW_HPP

#include <adamw.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <initializer_list>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#if __cplusplus >= 202002L
#include <span>
#endif
#if __has_include(<stdfloat>) && __cplusplus > 202002L
#include <stdfloat>
#endif

namespace adamw {

// A call has failed, and nothing has changed.
class error : public std::runtime_error {
public:
  error(adamw_status status, const char *text) : std::runtime_error(text), status_(status) {}

  adamw_status status() const noexcept { return status_; }

private:
  adamw_status status_;
};

// The numbers of a parameter and of a group, as distinct types.
enum class param : std::uint32_t {};
enum class group : std::uint32_t {};

enum class clear : adamw_clear { zero = ADAMW_CLEAR_ZERO, forget = ADAMW_CLEAR_FORGET };

enum class dtype : adamw_dtype {
  f32 = ADAMW_DTYPE_F32,
  f64 = ADAMW_DTYPE_F64,
  f16 = ADAMW_DTYPE_F16,
  bf16 = ADAMW_DTYPE_BF16,
  i16 = ADAMW_DTYPE_I16, // for remainders
  u8 = ADAMW_DTYPE_U8    // for moments in codes
};

namespace detail {

[[noreturn]] inline void fail(adamw_status status, const char *text) {
#ifdef __cpp_exceptions
  throw error(status, text);
#else
  std::fprintf(stderr, "%s: %s\n", adamw_status_name(status), text);
  std::abort();
#endif
}

inline void check(adamw_status status) {
  if (status != ADAMW_STATUS_OK)
    fail(status, adamw_last_error());
}

template <class T> struct dtype_of;
template <> struct dtype_of<float> { static constexpr dtype value = dtype::f32; };
template <> struct dtype_of<double> { static constexpr dtype value = dtype::f64; };
template <> struct dtype_of<std::int16_t> { static constexpr dtype value = dtype::i16; };
template <> struct dtype_of<std::uint8_t> { static constexpr dtype value = dtype::u8; };
#ifdef __STDCPP_FLOAT16_T__
template <> struct dtype_of<std::float16_t> { static constexpr dtype value = dtype::f16; };
#endif
#ifdef __STDCPP_BFLOAT16_T__
template <> struct dtype_of<std::bfloat16_t> { static constexpr dtype value = dtype::bf16; };
#endif

inline adamw_data_type dlpack(dtype type) {
  switch (type) {
  case dtype::f32: return {ADAMW_CODE_FLOAT, 32, 1};
  case dtype::f64: return {ADAMW_CODE_FLOAT, 64, 1};
  case dtype::f16: return {ADAMW_CODE_FLOAT, 16, 1};
  case dtype::bf16: return {ADAMW_CODE_BFLOAT, 16, 1};
  case dtype::i16: return {ADAMW_CODE_INT, 16, 1};
  case dtype::u8: return {ADAMW_CODE_UINT, 8, 1};
  }
  return {0, 0, 0};
}

// The element type of a container with data() and size().
template <class C, class = decltype(std::declval<C &>().size())>
using element = std::remove_pointer_t<decltype(std::declval<C &>().data())>;

// A call of the library that is running on this thread. The library calls back on the thread that
// called it, so the innermost call is the one that led to a callback, and it keeps the exception
// that the callback throws.
struct under_way {
  under_way() noexcept : outer(std::exchange(innermost, this)) {}
  ~under_way() { innermost = outer; }
  under_way(const under_way &) = delete;
  under_way &operator=(const under_way &) = delete;

  static inline thread_local under_way *innermost = nullptr;
  under_way *outer;
  std::exception_ptr thrown; // the first exception
};

// Calls a function of adamw.h. Throws the exception of a callback, or else the library's error.
template <class F, class... Args> void call(F function, Args... args) {
  under_way now;
  const adamw_status status = function(args...);
  if (now.thrown)
    std::rethrow_exception(now.thrown);
  check(status);
}

// Runs a callback for the library, and keeps its exception for `call`. If the host has called the
// library directly, there is no `call`, and only the status remains.
template <class F> std::int32_t carry(F &&callback) noexcept {
  under_way *const now = std::exchange(under_way::innermost, nullptr);
  std::int32_t answer = -1;
#ifdef __cpp_exceptions
  try {
    answer = callback();
  } catch (...) {
    if (now && !now->thrown)
      now->thrown = std::current_exception();
  }
#else
  answer = callback();
#endif
  under_way::innermost = now;
  return answer;
}

} // namespace detail

// Contiguous elements that are only read, and only during the call that takes them: a container or
// array of float or double (or std::float16_t, std::bfloat16_t; std::int16_t for remainders,
// std::uint8_t for moments in codes), or a pointer, a count and a type. May be const and temporary.
class input {
public:
  template <class C, class T = detail::element<const C>,
            class = decltype(detail::dtype_of<std::remove_const_t<T>>::value)>
  input(const C &elements) : input(elements.data(), elements.size()) {}

  template <class T, std::size_t N> input(const T (&elements)[N]) : input(elements, N) {}

  template <class T>
  input(const T *data, std::size_t n) : input(data, n, detail::dtype_of<T>::value) {}

  // For 16-bit elements as std::uint16_t, or any other elements that have this type in memory.
  input(const void *data, std::size_t n, dtype type)
      : data_(const_cast<void *>(data)), n_(static_cast<std::int64_t>(n)), type_(type) {}

  std::size_t size() const noexcept { return static_cast<std::size_t>(n_); }

  // Returns it as a tensor of adamw.h, valid as long as this object.
  adamw_tensor get() const {
    return {data_,
            {ADAMW_DEVICE_CPU, 0},
            1,
            detail::dlpack(type_),
            const_cast<std::int64_t *>(&n_),
            nullptr,
            0};
  }

  void *data() const noexcept { return data_; }
  dtype type() const noexcept { return type_; }

private:
  void *data_;
  std::int64_t n_;
  dtype type_;
};

// Elements as in `input` whose address the library keeps, or which it writes. So they are neither
// const nor temporary: a named std::vector, std::array or array, a std::span, or a pointer and a
// count.
class tensor : public input {
public:
  template <class C, class T = detail::element<C>,
            class = decltype(detail::dtype_of<T>::value)>
  tensor(C &elements) : tensor(elements.data(), elements.size()) {}

#ifdef __cpp_lib_span
  template <class T, std::size_t N, class = decltype(detail::dtype_of<T>::value)>
  tensor(std::span<T, N> elements) : tensor(elements.data(), elements.size()) {}
#endif

  template <class T, std::size_t N, class = decltype(detail::dtype_of<T>::value)>
  tensor(T (&elements)[N]) : tensor(elements, N) {}

  template <class T, class = decltype(detail::dtype_of<T>::value)>
  tensor(T *data, std::size_t n) : input(data, n) {}

  tensor(void *data, std::size_t n, dtype type) : input(data, n, type) {}
};

// Elements as in `input` whose address the library keeps and which it only reads, unless gradients
// are cleared (clear_grad with zero, config.clear_grads). Made like a tensor, but may be const.
class gradient : public input {
public:
  template <class C, class T = std::remove_const_t<detail::element<C>>,
            class = decltype(detail::dtype_of<T>::value)>
  gradient(C &elements) : gradient(elements.data(), elements.size()) {}

#ifdef __cpp_lib_span
  template <class T, std::size_t N,
            class = decltype(detail::dtype_of<std::remove_const_t<T>>::value)>
  gradient(std::span<T, N> elements) : gradient(elements.data(), elements.size()) {}
#endif

  template <class T, std::size_t N,
            class = decltype(detail::dtype_of<std::remove_const_t<T>>::value)>
  gradient(T (&elements)[N]) : gradient(elements, N) {}

  template <class T, class = decltype(detail::dtype_of<std::remove_const_t<T>>::value)>
  gradient(T *data, std::size_t n)
      : input(static_cast<const std::remove_const_t<T> *>(data), n) {}

  gradient(const void *data, std::size_t n, dtype type) : input(data, n, type) {}

  gradient(const tensor &elements) : input(elements) {}
};

// Row numbers, whose address the library keeps and which it only reads: a named container or array
// of std::int32_t or std::int64_t, a std::span, or a pointer and a count.
class rows {
public:
  template <class C, class = detail::element<C>>
  rows(C &numbers) : rows(numbers.data(), numbers.size()) {}

#ifdef __cpp_lib_span
  template <class T, std::size_t N>
  rows(std::span<T, N> numbers) : rows(numbers.data(), numbers.size()) {}
#endif

  template <class T, std::size_t N> rows(T (&numbers)[N]) : rows(numbers, N) {}

  template <class T>
  rows(T *data, std::size_t n)
      : data_(const_cast<std::remove_const_t<T> *>(data)), n_(static_cast<std::int64_t>(n)),
        bits_(8 * sizeof(T)) {
    static_assert(std::is_same_v<std::remove_const_t<T>, std::int32_t> ||
                      std::is_same_v<std::remove_const_t<T>, std::int64_t>,
                  "numbers of rows are std::int32_t or std::int64_t");
  }

  // Returns them as a tensor of adamw.h, valid as long as this object.
  adamw_tensor get() const {
    return {data_,
            {ADAMW_DEVICE_CPU, 0},
            1,
            {ADAMW_CODE_INT, static_cast<std::uint8_t>(bits_), 1},
            const_cast<std::int64_t *>(&n_),
            nullptr,
            0};
  }

private:
  void *data_;
  std::int64_t n_;
  std::size_t bits_;
};

// A parallel_for calls `run` with every index from 0 to num_tasks - 1, on any threads, and returns
// when all of these calls have returned.
using task = std::function<void(std::size_t index)>;
using parallel_for = std::function<void(std::size_t num_tasks, const task &run)>;

// Like adamw_decay_filter, adamw_lr_ratio and adamw_schedule_function, but they return the result.
using decay_filter = std::function<bool(std::string_view name)>;
using lr_ratio = std::function<double(const adamw_param_info &info)>;
using schedule_function = std::function<double(std::uint64_t index)>;

// Replaces each of `count` numbers by its sum over all ranks, as adamw_all_reduce does.
using all_reduce = std::function<void(double *buffer, std::size_t count)>;

// Gives memory on a device and takes it back, as adamw_device_alloc and adamw_device_free do.
// `alloc` returns the address; nullptr or an exception fails the call of the library. `free` must
// not throw.
struct device_allocator {
  std::function<void *(std::size_t num_bytes, std::int32_t device, void *stream)> alloc;
  std::function<void(void *address, std::size_t num_bytes, std::int32_t device, void *stream)> free;
};

// Waits for the gradients of the first `until` elements, as adamw_next_piece does.
using next_piece = std::function<void(std::uint64_t done, std::uint64_t until)>;

// Threads that several optimizers share: config.team = team.get(). They stay until the team and the
// last of these optimizers are gone.
class team {
public:
  // The number counts the thread that calls a step; 0 is as many as there are processors.
  explicit team(std::uint32_t num_threads = 0) {
    detail::check(adamw_team_create(num_threads, &handle_));
  }

  ~team() { adamw_team_destroy(handle_); }

  team(team &&other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}

  team &operator=(team &&other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }

  team(const team &) = delete;
  team &operator=(const team &) = delete;

  // Returns the handle, which still belongs to this object.
  adamw_team *get() const noexcept { return handle_; }

private:
  adamw_team *handle_ = nullptr;
};

// adamw_config with the defaults, a loop of the host in place of the library's threads, and an
// allocator of the host's for memory on a device.
struct config : adamw_config {
  config() : adamw_config() { detail::check(adamw_config_init(this, sizeof(adamw_config))); }

  adamw::parallel_for loop;
  adamw::device_allocator allocator;
};

// A schedule of this kind. The caller fills in the other fields of adamw_schedule.
struct schedule : adamw_schedule {
  explicit schedule(adamw_schedule_kind kind_) : adamw_schedule() {
    struct_size = sizeof(adamw_schedule);
    kind = kind_;
  }
};

// Returns the first `n` learning rates of a schedule. Needs no optimizer.
inline std::vector<double> schedule_trace(const adamw_schedule &schedule, std::size_t n) {
  std::vector<double> lrs(n);
  detail::call(adamw_schedule_trace, &schedule, lrs.data(), n);
  return lrs;
}

inline adamw_capabilities capabilities() {
  adamw_capabilities capabilities{};
  detail::check(adamw_get_capabilities(&capabilities, sizeof capabilities));
  return capabilities;
}

inline const char *version() noexcept { return adamw_version(); }

inline const char *status_name(adamw_status status) noexcept {
  return adamw_status_name(status);
}

// Calls `visit` for every text and every tensor of a checkpoint.
inline void inspect(adamw_source source, const std::function<void(const adamw_entry &)> &visit) {
  source.struct_size = sizeof source;
  const auto each = [](const adamw_entry *entry, void *user_data) {
    return detail::carry([&] {
      (*static_cast<const std::function<void(const adamw_entry &)> *>(user_data))(*entry);
      return 0;
    });
  };
  detail::call(adamw_inspect, &source, static_cast<adamw_visit>(each),
               const_cast<std::function<void(const adamw_entry &)> *>(&visit));
}

// Returns the first element and the length of what one of `num_ranks` ranks has of each parameter.
inline std::vector<std::pair<std::uint64_t, std::uint64_t>>
shard_ranges(const std::vector<std::uint64_t> &n_elements, std::uint32_t rank,
             std::uint32_t num_ranks, std::uint64_t align = 0) {
  std::vector<std::uint64_t> firsts(n_elements.size()), lengths(n_elements.size());
  detail::call(adamw_shard_ranges, n_elements.data(), n_elements.size(), align, rank, num_ranks,
               firsts.data(), lengths.data());
  std::vector<std::pair<std::uint64_t, std::uint64_t>> ranges;
  for (std::size_t i = 0; i < firsts.size(); i++) ranges.emplace_back(firsts[i], lengths[i]);
  return ranges;
}

// A new parameter and the state that the host gives for it. The library allocates the rest.
struct param_config {
  std::string name;
  tensor param;
  const tensor *master = nullptr;
  const tensor *exp_avg = nullptr;
  const tensor *exp_avg_sq = nullptr;
  const tensor *max_exp_avg_sq = nullptr;
  std::uint64_t step = 0;
  adamw::group group{};
  bool no_clip = false;
  adamw_regularizer regularizer = ADAMW_REGULARIZER_NONE;
  double regularizer_coeff = 0;
  const tensor *remainder = nullptr;
  const tensor *exp_avg_scale = nullptr;
  const tensor *exp_avg_sq_scale = nullptr;
  const tensor *max_exp_avg_sq_scale = nullptr;
  std::uint64_t first_element = 0;
  std::uint64_t whole_elements = 0;
  bool offload = false;
};

// A buffer that the host has moved, and its new place.
struct moved {
  adamw::param param;
  adamw_buffer buffer;
  tensor to;
};

// A part of a parameter's state. as<float>() returns its memory without a copy, and null for a
// counter.
class state : public adamw_state_info {
public:
  template <class T> T *as() const {
    if (dtype != static_cast<adamw_dtype>(detail::dtype_of<T>::value))
      detail::fail(ADAMW_STATUS_INVALID_ARGUMENT, "the state has elements of another type");
    return static_cast<T *>(data);
  }
};

// A parameter that minimize has stepped, and the address of its gradient.
struct updated {
  adamw::param param;
  void *grad;
};

// The result of minimize: the loss, and the parameters that were stepped.
struct minimized {
  double loss;
  std::vector<updated> params;
};

// An optimizer, which owns its handle and its callbacks. A moved-from optimizer is empty: all its
// calls fail with ADAMW_STATUS_BAD_HANDLE. It must not be destroyed in one of its own callbacks,
// because the library cannot destroy the handle then, and the memory is leaked.
//
// The second of two calls at once, from two threads, is refused with ADAMW_STATUS_BUSY as in C. But
// only one thread at a time may set callbacks or a schedule.
class optimizer {
public:
  explicit optimizer(config config = adamw::config()) : callbacks_(new callbacks) {
    if (config.loop) {
      callbacks_->loop = std::make_unique<parallel_for>(std::move(config.loop));
      config.parallel_for = run_loop;
      config.parallel_for_data = callbacks_->loop.get();
    }
    if (config.allocator.alloc) {
      callbacks_->allocator = std::make_unique<device_allocator>(std::move(config.allocator));
      config.device_alloc = run_alloc;
      config.device_free = run_free;
      config.device_memory_data = callbacks_->allocator.get();
    }
    detail::call(adamw_create, &config, &handle_);
  }

  ~optimizer() { end(); }

  optimizer(optimizer &&other) noexcept
      : callbacks_(std::move(other.callbacks_)), handle_(std::exchange(other.handle_, nullptr)) {}

  optimizer &operator=(optimizer &&other) noexcept {
    if (this != &other) {
      end();
      callbacks_ = std::move(other.callbacks_);
      handle_ = std::exchange(other.handle_, nullptr);
    }
    return *this;
  }

  optimizer(const optimizer &) = delete;
  optimizer &operator=(const optimizer &) = delete;

  // Returns the handle, for calls of adamw.h. It still belongs to this object. An exception of a
  // callback in such a call is lost: the call returns ADAMW_STATUS_CALLBACK.
  adamw_optimizer *get() const noexcept { return handle_; }

  // Gives the handle to the caller, who ends it with adamw_destroy, and leaves this object empty.
  // Throws as long as the library may call a callback of this object.
  adamw_optimizer *release() {
    if (callbacks_ && callbacks_->has_any())
      detail::fail(ADAMW_STATUS_INVALID_ARGUMENT, "the handle has callbacks of the object's");
    return std::exchange(handle_, nullptr);
  }

  // Parameters.

  param add(const std::string &name, const tensor &elements) {
    std::uint32_t number;
    detail::call(adamw_add_array, handle_, name.c_str(), elements.data(), elements.size(),
                 static_cast<adamw_dtype>(elements.type()), &number);
    return param(number);
  }

  param add(const std::string &name, const tensor &elements, group into) {
    std::uint32_t number;
    detail::call(adamw_add_array_to_group, handle_, static_cast<std::uint32_t>(into), name.c_str(),
                 elements.data(), elements.size(), static_cast<adamw_dtype>(elements.type()),
                 &number);
    return param(number);
  }

  param add(const param_config &given) {
    adamw_param_config config{};
    config.struct_size = sizeof config;
    config.name = given.name.c_str();
    const adamw_tensor whole = given.param.get();
    config.param = &whole;
    maybe master(given.master), exp_avg(given.exp_avg), exp_avg_sq(given.exp_avg_sq),
        max_exp_avg_sq(given.max_exp_avg_sq), remainder(given.remainder),
        exp_avg_scale(given.exp_avg_scale), exp_avg_sq_scale(given.exp_avg_sq_scale),
        max_exp_avg_sq_scale(given.max_exp_avg_sq_scale);
    config.master = master.get();
    config.exp_avg = exp_avg.get();
    config.exp_avg_sq = exp_avg_sq.get();
    config.max_exp_avg_sq = max_exp_avg_sq.get();
    config.step = given.step;
    config.group = static_cast<std::uint32_t>(given.group);
    config.no_clip = given.no_clip;
    config.regularizer = given.regularizer;
    config.regularizer_coeff = given.regularizer_coeff;
    config.remainder = remainder.get();
    config.exp_avg_scale = exp_avg_scale.get();
    config.exp_avg_sq_scale = exp_avg_sq_scale.get();
    config.max_exp_avg_sq_scale = max_exp_avg_sq_scale.get();
    config.first_element = given.first_element;
    config.whole_elements = given.whole_elements;
    config.offload = given.offload;
    std::uint32_t number;
    detail::call(adamw_add_param, handle_, &config, &number);
    return param(number);
  }

  void remove(param number) { detail::call(adamw_remove_param, handle_, raw(number)); }
  void reset(param number) { detail::call(adamw_reset_param, handle_, raw(number)); }
  void sync_master(param number) { detail::call(adamw_sync_master, handle_, raw(number)); }

  // Tells the library that a buffer of the host has moved, with the same elements.
  void rebind(param number, adamw_buffer buffer, const tensor &moved_to) {
    rebind({{number, buffer, moved_to}});
  }

  // Tells the library that several buffers have moved. On an error, none is moved.
  void rebind(const std::vector<moved> &buffers) {
    std::vector<std::uint32_t> numbers;
    std::vector<adamw_buffer> kinds;
    std::vector<adamw_tensor> wholes;
    std::vector<const adamw_tensor *> tensors;
    wholes.reserve(buffers.size());
    for (const moved &one : buffers) {
      numbers.push_back(raw(one.param));
      kinds.push_back(one.buffer);
      wholes.push_back(one.to.get());
      tensors.push_back(&wholes.back());
    }
    detail::call(adamw_rebind, handle_, numbers.data(), kinds.data(), tensors.data(),
                 buffers.size());
  }

  // Takes the memory of the host's buffers back: steps pass over the parameter until `rebind` says
  // where all of them are again.
  void park(param number, const std::vector<adamw_buffer> &buffers = {ADAMW_BUFFER_PARAM}) {
    const std::vector<std::uint32_t> numbers(buffers.size(), raw(number));
    const std::vector<const adamw_tensor *> nowhere(buffers.size());
    detail::call(adamw_rebind, handle_, numbers.data(), buffers.data(), nowhere.data(),
                 buffers.size());
  }

  adamw_param_info info(param number) const {
    return read<adamw_param_info>(adamw_get_param_info, raw(number));
  }

  adamw_param_options options(param number) const {
    return read<adamw_param_options>(adamw_get_param_options, raw(number));
  }

  void set_options(param number, const adamw_param_options &options) {
    detail::call(adamw_set_param_options, handle_, raw(number), &options);
  }

  std::uint32_t num_params() const {
    std::uint32_t count;
    detail::call(adamw_num_params, handle_, &count);
    return count;
  }

  param find(const std::string &name) const {
    std::uint32_t number;
    detail::call(adamw_find_param, handle_, name.c_str(), &number);
    return param(number);
  }

  // Groups and hyper-parameters.

  // Returns the hyper-parameters that a new group starts with.
  adamw_group_config group_config() const {
    adamw_group_config config{};
    detail::call(adamw_group_config_init, handle_, &config, sizeof config);
    return config;
  }

  group add_group(const adamw_group_config &config) {
    std::uint32_t number;
    detail::call(adamw_add_group, handle_, &config, &number);
    return group(number);
  }

  std::uint32_t num_groups() const {
    std::uint32_t count;
    detail::call(adamw_num_groups, handle_, &count);
    return count;
  }

  adamw_group_config values(group number) const {
    return read<adamw_group_config>(adamw_get_group, static_cast<std::uint32_t>(number));
  }

  void set_values(group number, const adamw_group_config &values) {
    detail::call(adamw_set_group, handle_, static_cast<std::uint32_t>(number), &values);
  }

  double lr() const {
    double lr;
    detail::call(adamw_get_lr, handle_, &lr);
    return lr;
  }

  double lr(param number) const {
    double lr;
    detail::call(adamw_get_param_lr, handle_, raw(number), &lr);
    return lr;
  }

  void set_lr(double lr) { detail::call(adamw_set_lr, handle_, lr); }

  // Weight decay applies to the parameters for whose name `filter` returns true; without a filter,
  // to all.
  void set_decay_filter(decay_filter filter) {
    install(&callbacks::decays, std::move(filter), [handle = handle_](decay_filter *own) {
      return adamw_set_decay_filter(handle, own ? run_decay_filter : nullptr, own);
    });
  }

  // `ratio` returns the factor for the learning rate of a parameter. Every step calls it.
  void set_lr_ratio(adamw::lr_ratio ratio) {
    install(&callbacks::ratio, std::move(ratio), [handle = handle_](adamw::lr_ratio *own) {
      return adamw_set_lr_ratio(handle, own ? run_lr_ratio : nullptr, own);
    });
  }

  // Ranks that have ranges of the same parameters agree by `reduce` before every step. It takes
  // the one of set_next_piece away.
  void set_all_reduce(adamw::all_reduce reduce) {
    install(&callbacks::reduce, std::move(reduce), [handle = handle_](adamw::all_reduce *own) {
      return adamw_set_all_reduce(handle, own ? run_all_reduce : nullptr, own);
    });
    callbacks_->next.reset();
  }

  // Steps of ranks go on piece by piece, of about so many elements, and call `next` before each.
  void set_next_piece(adamw::next_piece next, std::uint64_t n_elements = 0) {
    install(&callbacks::next, std::move(next), [=, handle = handle_](adamw::next_piece *own) {
      return adamw_set_next_piece(handle, n_elements, own ? run_next_piece : nullptr, own);
    });
  }

  // If the schedule has a function, the caller must keep it valid.
  void set_schedule(const adamw_schedule &schedule) { replace_schedule(&schedule); }

  // `function` returns the learning rate after this number of steps.
  void set_schedule(schedule_function function) {
    install(&callbacks::schedule, std::move(function), [handle = handle_](schedule_function *own) {
      adamw::schedule schedule(ADAMW_SCHEDULE_FUNCTION);
      schedule.function = run_schedule;
      schedule.user_data = own;
      return adamw_set_lr_schedule(handle, own ? &schedule : nullptr);
    });
  }

  void remove_schedule() { replace_schedule(nullptr); }

  void advance_schedule() { detail::call(adamw_schedule_advance, handle_); }
  void advance_schedule(double metric) {
    detail::call(adamw_schedule_advance_with_metric, handle_, metric);
  }

  adamw_schedule_state schedule_state() const {
    adamw_schedule_state state{};
    detail::call(adamw_get_schedule_state, handle_, &state, sizeof state);
    return state;
  }

  void set_schedule_index(std::uint64_t index) {
    detail::call(adamw_set_schedule_index, handle_, index);
  }

  void set_schedule_state(const adamw_schedule_state &state) {
    detail::call(adamw_set_schedule_state, handle_, &state);
  }

  // Gradients.

  void set_grad(param number, const gradient &grad) {
    detail::call(adamw_set_grad_array, handle_, raw(number), grad.data(), grad.size(),
                 static_cast<adamw_dtype>(grad.type()));
  }

  // Sets all of them or, on an error, none.
  void set_grads(std::initializer_list<std::pair<param, gradient>> grads) {
    const grad_list list(grads.begin(), grads.size());
    detail::call(adamw_set_grads, handle_, list.numbers(), list.tensors(), list.size());
  }

  void set_grads(const std::vector<std::pair<param, gradient>> &grads) {
    const grad_list list(grads.data(), grads.size());
    detail::call(adamw_set_grads, handle_, list.numbers(), list.tensors(), list.size());
  }

  // Sets the gradient of each parameter, from 0 on, to an array like the parameter: its address.
  void set_grad_data(const std::vector<const void *> &data) {
    detail::call(adamw_set_grad_data, handle_, nullptr, data.data(), data.size());
  }

  void forget_grad(param number) { detail::call(adamw_set_grad, handle_, raw(number), nullptr); }

  void set_sparse_grad(param number, const rows &rows, const gradient &values) {
    const adamw_tensor numbers = rows.get(), whole = values.get();
    detail::call(adamw_set_sparse_grad, handle_, raw(number), &numbers, &whole);
  }

  void sparse_prepare(param number, const rows &rows) {
    const adamw_tensor numbers = rows.get();
    detail::call(adamw_sparse_prepare, handle_, raw(number), &numbers);
  }

  void sparse_flush() { detail::call(adamw_sparse_flush, handle_); }

  // Checkpoints. These methods fill in `struct_size`; the callbacks in the structs are C functions.

  void save(const std::string &path) { detail::call(adamw_save, handle_, path.c_str()); }

  // Saves to the target that `args` names, and returns the size in bytes. `args.out_durable`
  // receives whether a file survives a power failure.
  std::uint64_t save(adamw_save_args args) {
    args.struct_size = sizeof args;
    std::uint64_t num_bytes;
    detail::call(adamw_save_to, handle_, &args, &num_bytes);
    return num_bytes;
  }

  // Begins to save to a file, or to what `args` names, and returns while a thread of the handle
  // writes it.
  void save_begin(const std::string &path, bool params = false) {
    adamw_save_args args{};
    args.path = path.c_str();
    args.params = params;
    save_begin(args);
  }

  void save_begin(adamw_save_args args) {
    args.struct_size = sizeof args;
    detail::call(adamw_save_begin, handle_, &args);
  }

  // How far a save has come that was begun.
  struct save_progress {
    bool running;
    std::uint64_t done, total;
  };

  // Does not wait. Throws the error of a save that has failed.
  save_progress save_poll() {
    std::uint32_t running;
    save_progress progress;
    detail::call(adamw_save_poll, handle_, &running, &progress.done, &progress.total);
    progress.running = running != 0;
    return progress;
  }

  // What was saved.
  struct saved {
    std::uint64_t num_bytes;
    bool durable;
  };

  // Waits for the save that was begun last.
  saved save_wait() {
    std::uint64_t num_bytes;
    std::uint32_t durable;
    detail::call(adamw_save_wait, handle_, &num_bytes, &durable);
    return {num_bytes, durable != 0};
  }

  // Returns the size of a checkpoint in bytes.
  std::uint64_t saved_size(bool params = false) {
    adamw_save_args args{};
    args.params = params;
    args.size_only = 1;
    return save(args);
  }

  void load(const std::string &path, adamw_load_options options = {}) {
    options.struct_size = sizeof options;
    detail::call(adamw_load, handle_, path.c_str(), &options);
  }

  void load(std::vector<adamw_source> sources, adamw_load_options options = {}) {
    options.struct_size = sizeof options;
    std::vector<const adamw_source *> pointers;
    for (adamw_source &source : sources) {
      source.struct_size = sizeof source;
      pointers.push_back(&source);
    }
    detail::call(adamw_load_from, handle_, pointers.data(), pointers.size(), &options);
  }

  void accumulate_grad(param number, const input &grad) {
    detail::call(adamw_accumulate_grad_array, handle_, raw(number), grad.data(), grad.size(),
                 static_cast<adamw_dtype>(grad.type()));
  }

  // Accumulates a gradient that is on a device.
  void accumulate_grad(param number, const adamw_tensor &grad) {
    detail::call(adamw_accumulate_grad, handle_, raw(number), &grad);
  }

  void clear_grad(clear mode = clear::zero) {
    detail::call(adamw_clear_grad, handle_, static_cast<adamw_clear>(mode));
  }

  // Steps.

  // If the loop (config.loop) throws after work has begun, its exception is rethrown when the step
  // has been taken.
  void step() { detail::call(adamw_step, handle_); }

  // A step that threads of the host take together: one begins it, any number of them work on it at
  // the same time, and one ends it. An exception of a callback does not leave step_work, which may
  // be on a thread where nobody catches it, and step_end throws ADAMW_STATUS_CALLBACK.
  void step_begin() { detail::check(adamw_step_begin(handle_)); }
  void step_work() const { detail::check(adamw_step_work(handle_)); }
  void step_end() { detail::check(adamw_step_end(handle_)); }

  // Measures a gradient now if the next step would. The step has the same result without it.
  void grad_ready(param number) { detail::call(adamw_grad_ready, handle_, raw(number)); }

  // Measures the gradients of the next step and writes the sums, two doubles for each parameter:
  // `sums [num_params, 2]`.
  void measure_grads(const tensor &sums) { measure_grads(sums.get()); }
  void measure_grads(const adamw_tensor &sums) {
    detail::call(adamw_measure_grads, handle_, &sums);
  }

  // Has the next steps take these sums, and measure nothing; or measure again.
  void set_grad_sums(const tensor &sums) { set_grad_sums(sums.get()); }
  void set_grad_sums(const adamw_tensor &sums) {
    detail::call(adamw_set_grad_sums, handle_, &sums);
  }
  void measure_again() { detail::call(adamw_set_grad_sums, handle_, nullptr); }

  // The norm of the gradients of the next step, and the count of what is not finite in them.
  std::pair<double, std::uint64_t> grad_norm() {
    std::pair<double, std::uint64_t> found{};
    detail::call(adamw_get_grad_norm, handle_, &found.first, &found.second);
    return found;
  }

  // Steps one parameter alone, and forgets its gradient.
  void step(param number) { detail::call(adamw_step_param, handle_, raw(number)); }

  // Calls the closure, which computes gradients and returns the loss, then steps the parameters in
  // `params` (all, if it is empty) except those in `no_grad`.
  minimized minimize(const std::function<double()> &closure, const std::vector<param> &params = {},
                     const std::vector<param> &no_grad = {}) {
    std::vector<adamw_param_grad> updated(num_params());
    adamw_minimize_args args{};
    args.struct_size = sizeof args;
    args.closure = run_closure;
    args.user_data = const_cast<std::function<double()> *>(&closure);
    args.params = params.empty() ? nullptr : raw(params.data());
    args.num_params = params.size();
    args.no_grad = raw(no_grad.data());
    args.num_no_grad = no_grad.size();
    args.updated = updated.data();
    args.capacity = updated.size();
    double loss = 0;
    std::size_t count = 0;
    detail::call(adamw_minimize, handle_, &args, &loss, &count);
    minimized result{loss, {}};
    result.params.reserve(count);
    for (std::size_t i = 0; i < count; i++)
      result.params.push_back({param(updated[i].param), updated[i].grad});
    return result;
  }

  void apply_gradients(const std::vector<std::pair<param, gradient>> &grads) {
    const grad_list list(grads.data(), grads.size());
    detail::call(adamw_apply_gradients, handle_, list.numbers(), list.tensors(), list.size());
  }

  void set_statistics(bool statistics) { detail::call(adamw_set_statistics, handle_, statistics); }

  adamw_step_info step_info() const {
    adamw_step_info info{};
    detail::call(adamw_get_step_info, handle_, &info, sizeof info);
    return info;
  }

  // Parameters on a device.

  void set_stream(void *stream) { detail::call(adamw_set_stream, handle_, stream); }

  std::uint64_t pinned_bytes() const {
    std::uint64_t num_bytes;
    detail::call(adamw_get_pinned_bytes, handle_, &num_bytes);
    return num_bytes;
  }

  void set_offload_timing(bool timing) {
    detail::call(adamw_set_offload_timing, handle_, timing);
  }

  adamw_offload_info offload_info() const {
    adamw_offload_info info{};
    detail::call(adamw_get_offload_info, handle_, &info, sizeof info);
    return info;
  }

  void set_device_inputs(adamw_device_inputs inputs = {}) {
    inputs.struct_size = sizeof inputs;
    detail::call(adamw_set_device_inputs, handle_, &inputs);
  }

  // Has the device write the loss scale to a number in its memory; nullptr: to none.
  void set_device_scale(float *out_scale) {
    detail::call(adamw_set_device_scale, handle_, out_scale);
  }

  void prepare() { detail::call(adamw_prepare, handle_); }

  // Sets the number of micro-batches of a mean. 0: as many as any parameter has accumulated.
  void set_accumulation_window(std::uint64_t micro_batches) {
    detail::call(adamw_set_accumulation_window, handle_, micro_batches);
  }

  // The loss scale.

  void set_grad_scale(double scale) { detail::call(adamw_set_grad_scale, handle_, scale); }

  double grad_scale() const {
    double scale;
    detail::call(adamw_get_grad_scale, handle_, &scale);
    return scale;
  }

  void set_loss_scaler(adamw_loss_scaler scaler = {}) {
    scaler.struct_size = sizeof scaler;
    detail::call(adamw_set_loss_scaler, handle_, &scaler);
  }

  void remove_loss_scaler() { detail::call(adamw_set_loss_scaler, handle_, nullptr); }

  adamw_loss_scaler_state loss_scaler_state() const {
    adamw_loss_scaler_state state{};
    detail::call(adamw_get_loss_scaler_state, handle_, &state, sizeof state);
    return state;
  }

  void set_loss_scaler_state(const adamw_loss_scaler_state &state) {
    detail::call(adamw_set_loss_scaler_state, handle_, &state);
  }

  void set_found_inf(const float *found_inf, float *out_found_inf) {
    detail::call(adamw_set_found_inf, handle_, found_inf, out_found_inf);
  }

  // State.

  adamw::state state(param number, adamw_buffer buffer) const {
    adamw::state state{};
    detail::call(adamw_get_state_info, handle_, raw(number), buffer, &state,
                 sizeof(adamw_state_info));
    return state;
  }

  // Returns the memory that the state of a parameter of this type and length would take. For a
  // shard, `whole_elements` is the length of the whole.
  adamw_memory memory_plan(dtype type, std::uint64_t n_elements, group number = group(0),
                           std::uint64_t whole_elements = 0) const {
    adamw_memory memory{};
    detail::call(adamw_memory_plan, handle_, static_cast<std::uint32_t>(number),
                 static_cast<adamw_dtype>(type), n_elements, whole_elements, &memory,
                 sizeof memory);
    return memory;
  }

  std::string state_name(param number, adamw_buffer buffer,
                         adamw_names names = ADAMW_NAMES_NEUTRAL) const {
    std::size_t length;
    detail::call(adamw_get_state_name, handle_, raw(number), buffer, names, nullptr, std::size_t(0),
                 &length);
    std::string name(length, '\0'); // a string has room for its NUL
    detail::call(adamw_get_state_name, handle_, raw(number), buffer, names, &name[0], length + 1,
                 &length);
    return name;
  }

  std::pair<param, adamw_buffer> find_state(const std::string &name) const {
    std::uint32_t number;
    adamw_buffer buffer;
    detail::call(adamw_find_state, handle_, name.c_str(), &number, &buffer);
    return {param(number), buffer};
  }

  void get_state(const std::string &name, const tensor &to) const {
    detail::call(adamw_get_state, handle_, name.c_str(), to.data(), to.size(),
                 static_cast<adamw_dtype>(to.type()));
  }

  // The step counts of all parameters, from 0 on.
  std::vector<std::uint64_t> steps() const {
    std::vector<std::uint64_t> steps(num_params());
    detail::call(adamw_get_steps, handle_, nullptr, steps.data(), steps.size());
    return steps;
  }

  void set_steps(const std::vector<std::uint64_t> &steps) {
    detail::call(adamw_set_steps, handle_, nullptr, steps.data(), steps.size());
  }

  void set_state(const std::string &name, const input &from) {
    detail::call(adamw_set_state, handle_, name.c_str(), from.data(), from.size(),
                 static_cast<adamw_dtype>(from.type()));
  }

private:
  // The callbacks. Each keeps its address until another has replaced it.
  struct callbacks {
    std::unique_ptr<parallel_for> loop;
    std::unique_ptr<device_allocator> allocator;
    std::unique_ptr<decay_filter> decays;
    std::unique_ptr<adamw::lr_ratio> ratio;
    std::unique_ptr<adamw::all_reduce> reduce;
    std::unique_ptr<adamw::next_piece> next;
    std::unique_ptr<schedule_function> schedule;

    bool has_any() const {
      return loop || allocator || decays || ratio || reduce || next || schedule;
    }
  };

  // Arrays of numbers and of tensors, from pairs of the two.
  class grad_list {
  public:
    grad_list(const std::pair<param, gradient> *given, std::size_t n) {
      numbers_.reserve(n);
      wholes_.reserve(n);
      tensors_.reserve(n);
      for (std::size_t i = 0; i < n; i++) {
        numbers_.push_back(raw(given[i].first));
        wholes_.push_back(given[i].second.get());
        tensors_.push_back(&wholes_[i]);
      }
    }

    const std::uint32_t *numbers() const { return numbers_.data(); }
    const adamw_tensor *const *tensors() const { return tensors_.data(); }
    std::size_t size() const { return numbers_.size(); }

  private:
    std::vector<std::uint32_t> numbers_;
    std::vector<adamw_tensor> wholes_;
    std::vector<const adamw_tensor *> tensors_;
  };

  class maybe {
  public:
    explicit maybe(const tensor *given) : is_there_(given), whole_() {
      if (given)
        whole_ = given->get();
    }
    const adamw_tensor *get() const { return is_there_ ? &whole_ : nullptr; }

  private:
    bool is_there_;
    adamw_tensor whole_;
  };

  static std::uint32_t raw(param number) { return static_cast<std::uint32_t>(number); }
  static const std::uint32_t *raw(const param *numbers) {
    return reinterpret_cast<const std::uint32_t *>(numbers);
  }

  template <class T, class F> T read(F function, std::uint32_t number) const {
    T value{};
    detail::call(function, handle_, number, &value, sizeof value);
    return value;
  }

  // If one of its own calls is running, the library keeps the handle and may still call back.
  void end() noexcept {
    if (handle_ && adamw_destroy(handle_) == ADAMW_STATUS_BUSY)
      static_cast<void>(callbacks_.release());
  }

  // Replaces a callback, unless the library refuses the new one. The library refuses an empty
  // optimizer before its callbacks, which do not exist, are used.
  template <class F, class Set>
  void install(std::unique_ptr<F> callbacks::*place, F callback, Set set) {
    std::unique_ptr<F> own = callback ? std::make_unique<F>(std::move(callback)) : nullptr;
    callbacks *const all = callbacks_.get();
    detail::call(set, own.get());
    std::swap(all->*place, own);
  }

  void replace_schedule(const adamw_schedule *schedule) {
    install(&callbacks::schedule, schedule_function(), [&](schedule_function *) {
      return adamw_set_lr_schedule(handle_, schedule);
    });
  }

  static std::int32_t run_decay_filter(const char *name, void *own) noexcept {
    return detail::carry([&] { return (*static_cast<decay_filter *>(own))(name) ? 1 : 0; });
  }

  static std::int32_t run_lr_ratio(const adamw_param_info *info, double *out, void *own) noexcept {
    return detail::carry([&] {
      *out = (*static_cast<adamw::lr_ratio *>(own))(*info);
      return 0;
    });
  }

  static std::int32_t run_all_reduce(double *buffer, std::size_t count, void *own) noexcept {
    return detail::carry([&] {
      (*static_cast<adamw::all_reduce *>(own))(buffer, count);
      return 0;
    });
  }

  static std::int32_t run_next_piece(std::uint64_t done, std::uint64_t until, void *own) noexcept {
    return detail::carry([&] {
      (*static_cast<adamw::next_piece *>(own))(done, until);
      return 0;
    });
  }

  static std::int32_t run_schedule(std::uint64_t index, double *out, void *own) noexcept {
    return detail::carry([&] {
      *out = (*static_cast<schedule_function *>(own))(index);
      return 0;
    });
  }

  static std::int32_t run_closure(double *out_loss, void *closure) noexcept {
    return detail::carry([&] {
      *out_loss = (*static_cast<const std::function<double()> *>(closure))();
      return 0;
    });
  }

  static std::int32_t run_loop(std::size_t num_tasks, adamw_task run, void *task_data,
                               void *own) noexcept {
    return detail::carry([&] {
      (*static_cast<parallel_for *>(own))(num_tasks, [=](std::size_t i) { run(task_data, i); });
      return 0;
    });
  }

  static std::int32_t run_alloc(std::size_t num_bytes, std::int32_t device, void *stream,
                                void **out_address, void *own) noexcept {
    return detail::carry([&] {
      *out_address = static_cast<device_allocator *>(own)->alloc(num_bytes, device, stream);
      return 0;
    });
  }

  static std::int32_t run_free(void *address, std::size_t num_bytes, std::int32_t device,
                               void *stream, void *own) noexcept {
    static_cast<device_allocator *>(own)->free(address, num_bytes, device, stream);
    return 0;
  }

  std::unique_ptr<callbacks> callbacks_;
  adamw_optimizer *handle_ = nullptr;
};

} // namespace adamw

#endif
