// adamw.hpp: owners move and end, every failure is an exception, and what a callback throws comes
// out of the call as it went in.
#include <adamw.hpp>

#include <array>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <memory>
#include <sanitizer/lsan_interface.h>
#include <thread>
#if __cplusplus >= 202002L
#include <span>
#endif

static int failures = 0;

static void holds(bool condition, const char *what, int line) {
  if (!condition) {
    std::fprintf(stderr, "line %d: %s\n", line, what);
    failures++;
  }
}
#define HOLDS(...) holds((__VA_ARGS__), #__VA_ARGS__, __LINE__)

// Whether `work` throws an E that `check` likes, and nothing else.
template <class E, class F, class C> static bool throws(F &&work, C &&check) {
  try {
    work();
  } catch (const E &thrown) {
    return check(thrown);
  } catch (...) {
  }
  return false;
}

template <class F> static bool fails(F &&work, adamw_status status) {
  return throws<adamw::error>(work, [&](const adamw::error &e) {
    return e.status() == status && *e.what();
  });
}

// An exception that is not the library's.
struct mine {
  int number;
};

template <class F> static bool throws_mine(F &&work, int number) {
  return throws<mine>(work, [&](const mine &thrown) { return thrown.number == number; });
}

struct world {
  std::vector<float> a{1, 2, 3}, grad_a{1, 1, 1};
  std::array<double, 2> b{{1, 2}}, grad_b{{1, 1}};
  adamw::optimizer optimizer;
  adamw::param first, second;

  explicit world(adamw::config config = adamw::config())
      : optimizer(std::move(config)), first(optimizer.add("a", a)), second(optimizer.add("b", b)) {
    optimizer.set_grads({{first, grad_a}, {second, grad_b}});
  }
  std::uint64_t steps() const { return optimizer.info(first).step; }
};

static void owners_move_and_end() {
  world w;
  adamw_optimizer *handle = w.optimizer.get();
  {
    int asked = 0;
    w.optimizer.set_lr_ratio([&](const adamw_param_info &) { return asked++, 1.0; });
    adamw::optimizer moved(std::move(w.optimizer));
    HOLDS(moved.get() == handle && w.optimizer.get() == nullptr);
    moved.step();
    HOLDS(asked == 2);
    adamw::optimizer &empty = w.optimizer;
    HOLDS(fails([&] { empty.step(); }, ADAMW_STATUS_BAD_HANDLE));
    HOLDS(fails([&] { empty.set_decay_filter([](std::string_view) { return true; }); }, ADAMW_STATUS_BAD_HANDLE));
    HOLDS(fails([&] { empty.set_lr_ratio(nullptr); }, ADAMW_STATUS_BAD_HANDLE));
    HOLDS(fails([&] { empty.set_schedule([](std::uint64_t) { return 1.0; }); }, ADAMW_STATUS_BAD_HANDLE));
    HOLDS(fails([&] { empty.remove_schedule(); }, ADAMW_STATUS_BAD_HANDLE));
    HOLDS(fails([&] { empty.minimize([] { return 0.0; }); }, ADAMW_STATUS_BAD_HANDLE));
    adamw::optimizer other;
    other = std::move(moved);
    other.step();
    HOLDS(other.info(w.first).step == 2);
  }
  HOLDS(adamw_step(handle) == ADAMW_STATUS_BAD_HANDLE);
}

static void elements_come_from_any_container() {
  adamw::optimizer optimizer;
  std::vector<float> vector(2);
  std::array<float, 2> array{};
  double plain[2] = {};
  std::uint16_t halves[2] = {};
  optimizer.add("vector", vector);
  optimizer.add("array", array);
  optimizer.add("plain", plain);
  optimizer.add("pointer", adamw::tensor(plain + 1, 0));
  HOLDS(optimizer.info(optimizer.add("halves", {halves, 2, adamw::dtype::bf16})).dtype ==
        ADAMW_DTYPE_BF16);
#if __cplusplus >= 202002L
  std::vector<float> more(2);
  HOLDS(optimizer.info(optimizer.add("span", std::span<float>(more))).n_elements == 2);
#endif
#ifdef __STDCPP_FLOAT16_T__
  std::vector<std::float16_t> half(2);
  HOLDS(optimizer.info(optimizer.add("float16_t", half)).dtype == ADAMW_DTYPE_F16);
#endif
  HOLDS(fails([&] { optimizer.add("vector", array); }, ADAMW_STATUS_INVALID_ARGUMENT));
}

// The library keeps what it steps, reads in later steps, or clears: that is neither const nor gone
// after the call.
using floats = std::vector<float>;
template <class... From> constexpr bool is_tensor = std::is_constructible_v<adamw::tensor, From...>;
static_assert(is_tensor<floats &> && !is_tensor<floats> && !is_tensor<const floats &>);
static_assert(is_tensor<float (&)[3]> && !is_tensor<const float (&)[3]>);
static_assert(is_tensor<std::array<float, 3> &> && !is_tensor<std::array<float, 3>>);
static_assert(is_tensor<float *, std::size_t> && !is_tensor<const float *, std::size_t>);
static_assert(is_tensor<void *, std::size_t, adamw::dtype> && !is_tensor<const void *, std::size_t, adamw::dtype>);
static_assert(!is_tensor<std::vector<int> &> && !is_tensor<std::vector<std::uint16_t> &>);
static_assert(std::is_constructible_v<adamw::input, const floats &> && std::is_constructible_v<adamw::input, floats>);
static_assert(!std::is_constructible_v<adamw::rows, std::vector<std::int64_t>>);
// Gradients are only read, and kept.
template <class... From> constexpr bool is_gradient = std::is_constructible_v<adamw::gradient, From...>;
static_assert(is_gradient<floats &> && is_gradient<const floats &> && !is_gradient<floats>);
static_assert(is_gradient<const float (&)[3]> && is_gradient<const std::array<float, 3> &>);
static_assert(is_gradient<const float *, std::size_t> && is_gradient<float *, std::size_t>);
static_assert(is_gradient<const void *, std::size_t, adamw::dtype> && is_gradient<const adamw::tensor &>);
static_assert(!is_gradient<const std::vector<int> &>);
#if __cplusplus >= 202002L
static_assert(is_tensor<std::span<float>> && is_tensor<const std::span<float, 3> &> && !is_tensor<std::span<const float>>);
static_assert(std::is_constructible_v<adamw::rows, std::span<const std::int32_t>>);
static_assert(is_gradient<std::span<const float>> && is_gradient<const std::span<float, 3> &>);
#endif

static void callbacks_are_lambdas_and_their_exceptions_come_out() {
  world w;
  int number = 0;
  const auto maybe_throw = [&] {
    if (number)
      throw mine{number};
  };
  w.optimizer.set_decay_filter([&](std::string_view name) { return maybe_throw(), name == "a"; });
  HOLDS(w.optimizer.info(w.first).decays == 1 && w.optimizer.info(w.second).decays == 0);
  number = 1;
  std::vector<float> c(1);
  HOLDS(throws_mine([&] { w.optimizer.add("c", c); }, 1));
  // A filter that throws when it is set does not take the place of the one before it.
  HOLDS(throws_mine([&] { w.optimizer.set_decay_filter([](std::string_view) -> bool { throw mine{2}; }); }, 2));
  number = 0;
  w.optimizer.add("c", c);
  w.optimizer.set_decay_filter(nullptr);
  HOLDS(w.optimizer.info(w.second).decays == 1);

  std::size_t reduced = 0;
  w.optimizer.set_all_reduce([&](double *buffer, std::size_t count) {
    maybe_throw();
    reduced += buffer[0] == 1 ? count : 0;
  });
  number = 3;
  HOLDS(throws_mine([&] { w.optimizer.step(); }, 3) && w.steps() == 0 && reduced == 0);
  number = 0;
  w.optimizer.set_next_piece([](std::uint64_t, std::uint64_t) { throw mine{4}; }, 256);
  w.optimizer.set_next_piece(nullptr);
  w.optimizer.set_all_reduce(nullptr);

  w.optimizer.set_lr_ratio([&](const adamw_param_info &info) {
    maybe_throw();
    return info.param == 0 ? 0.5 : 2.0;
  });
  HOLDS(w.optimizer.lr(w.first) == 0.0005 && w.optimizer.lr(w.second) == 0.002);
  number = 3;
  HOLDS(throws_mine([&] { w.optimizer.step(); }, 3));
  HOLDS(throws_mine([&] { w.optimizer.lr(w.first); }, 3) && w.steps() == 0);
  w.optimizer.set_lr_ratio(nullptr);
  w.optimizer.step();
  HOLDS(w.steps() == 1);
}

static void a_handle_can_be_released_without_callbacks() {
  world w;
  const auto refuses = [&] { return fails([&] { w.optimizer.release(); }, ADAMW_STATUS_INVALID_ARGUMENT); };
  adamw_optimizer *const handle = w.optimizer.get();
  w.optimizer.set_decay_filter([](std::string_view) { return true; });
  HOLDS(refuses());
  w.optimizer.set_decay_filter(nullptr);
  w.optimizer.set_lr_ratio([](const adamw_param_info &) { return 1.0; });
  HOLDS(refuses());
  w.optimizer.set_lr_ratio(nullptr);
  w.optimizer.set_schedule([](std::uint64_t) { return 1.0; });
  HOLDS(refuses() && w.optimizer.get() == handle);
  w.optimizer.remove_schedule();
  w.optimizer.set_all_reduce([](double *, std::size_t) {});
  HOLDS(refuses());
  w.optimizer.set_next_piece([](std::uint64_t, std::uint64_t) {});
  HOLDS(refuses());
  w.optimizer.set_all_reduce(nullptr); // takes both away
  HOLDS(w.optimizer.release() == handle && w.optimizer.get() == nullptr && w.optimizer.release() == nullptr);
  HOLDS(adamw_step(handle) == ADAMW_STATUS_OK && adamw_destroy(handle) == ADAMW_STATUS_OK);
  adamw::config config;
  config.loop = [](std::size_t, const adamw::task &) {};
  adamw::optimizer with_loop(config);
  HOLDS(fails([&] { with_loop.release(); }, ADAMW_STATUS_INVALID_ARGUMENT));
  adamw::config of_host;
  of_host.allocator.alloc = [](std::size_t, std::int32_t, void *) -> void * { return nullptr; };
  of_host.allocator.free = [](void *, std::size_t, std::int32_t, void *) {};
  adamw::optimizer with_allocator(of_host);
  HOLDS(fails([&] { with_allocator.release(); }, ADAMW_STATUS_INVALID_ARGUMENT));
}

// The copies of a callback that there are.
struct counted {
  int *alive;
  explicit counted(int *count) : alive(count) { ++*alive; }
  counted(const counted &other) : counted(other.alive) {}
  ~counted() { --*alive; }
};

static void callbacks_live_as_long_as_the_library_may_call_them() {
  int first = 0, second = 0;
  {
    world w;
    w.optimizer.set_decay_filter([own = counted(&first)](std::string_view) { return *own.alive > 0; });
    HOLDS(first == 1);
    HOLDS(throws_mine([&] {
      w.optimizer.set_decay_filter([own = counted(&second)](std::string_view) -> bool { throw mine{own.alive ? 1 : 0}; });
    }, 1));
    HOLDS(first == 1 && second == 0); // the new one was refused, the old one stays
    w.optimizer.set_decay_filter([own = counted(&second)](std::string_view) { return *own.alive > 0; });
    HOLDS(first == 0 && second == 1);
    // A callback cannot replace itself while it runs.
    w.optimizer.set_lr_ratio([&, own = counted(&first)](const adamw_param_info &) {
      HOLDS(fails([&] { w.optimizer.set_lr_ratio(nullptr); }, ADAMW_STATUS_BUSY));
      return double(*own.alive);
    });
    w.optimizer.step();
    HOLDS(first == 1 && w.steps() == 1);
  }
  HOLDS(first == 0 && second == 0);
}

// An optimizer that is lost during a call of its own stays, with the callback that is running.
static void an_owner_may_be_lost_in_a_callback() {
  const __lsan::ScopedDisabler leaks_on_purpose;
  world w;
  adamw_optimizer *handle = w.optimizer.get();
  const std::vector<double> ratios{1, 2};
  w.optimizer.set_lr_ratio([&w, ratios](const adamw_param_info &info) {
    w.optimizer = adamw::optimizer();
    return ratios[info.param];
  });
  w.optimizer.step();
  double lr = 0;
  HOLDS(w.optimizer.get() != handle && w.optimizer.num_params() == 0);
  HOLDS(adamw_get_lr(handle, &lr) == ADAMW_STATUS_OK && adamw_destroy(handle) == ADAMW_STATUS_OK);
}

static void what_a_callback_throws_belongs_to_its_call() {
  // One that the host led to by the C function is not thrown by a later call.
  world w;
  const auto throw_one = [](const adamw_param_info &) -> double { throw mine{1}; };
  w.optimizer.set_lr_ratio(throw_one);
  HOLDS(adamw_step(w.optimizer.get()) == ADAMW_STATUS_CALLBACK);
  HOLDS(w.optimizer.lr() == 0.001 && w.optimizer.find("a") == w.first);

  // Of two optimizers, one stepped in a callback of the other, each has its own.
  world outer;
  int inner_threw = 0;
  outer.optimizer.set_lr_ratio([&](const adamw_param_info &) {
    inner_threw += throws_mine([&] { w.optimizer.step(); }, 1);
    HOLDS(adamw_step(w.optimizer.get()) == ADAMW_STATUS_CALLBACK);
    return 1.0;
  });
  outer.optimizer.step();
  HOLDS(inner_threw == 2 && outer.steps() == 1 && w.steps() == 0);
  outer.optimizer.set_lr_ratio([&](const adamw_param_info &) -> double { w.optimizer.step(); return 1; });
  HOLDS(throws_mine([&] { outer.optimizer.step(); }, 1) && outer.steps() == 1);

  // Another thread that only looks never gets it, and the one that stepped always does.
  std::atomic<bool> done{false};
  int stolen = 0;
  std::thread watcher([&] {
    while (!done)
      stolen += throws<mine>([&] { w.optimizer.lr(); }, [](const mine &) { return true; });
  });
  int lost = 0;
  for (int i = 0; i < 20000; i++)
    try {
      w.optimizer.step();
      lost++;
    } catch (const mine &) {
    } catch (const adamw::error &error) {
      lost += error.status() != ADAMW_STATUS_BUSY;
    }
  done = true;
  watcher.join();
  HOLDS(stolen == 0 && lost == 0);
}

static void schedules_of_both_kinds() {
  world w;
  int number = 0;
  w.optimizer.set_schedule([&](std::uint64_t index) {
    if (number)
      throw mine{number};
    return 0.5 + double(index);
  });
  HOLDS(w.optimizer.lr() == 0.5);
  w.optimizer.step();
  HOLDS(w.optimizer.lr() == 1.5 && w.optimizer.schedule_state().index == 1);
  HOLDS(fails([&] { w.optimizer.set_lr(1); }, ADAMW_STATUS_LR_CONFLICT));
  number = 4;
  HOLDS(throws_mine([&] { w.optimizer.step(); }, 4) && w.steps() == 1);
  number = 0;
  adamw::schedule cosine(ADAMW_SCHEDULE_COSINE_WITH_WARMUP);
  cosine.lr = 0.1;
  cosine.total_steps = 10;
  cosine.advance = ADAMW_ADVANCE_MANUALLY;
  w.optimizer.set_schedule(cosine);
  const std::vector<double> trace = adamw::schedule_trace(cosine, 4);
  w.optimizer.advance_schedule();
  HOLDS(trace.size() == 4 && w.optimizer.lr() == trace[1]);
  adamw_schedule_state state = w.optimizer.schedule_state();
  w.optimizer.advance_schedule();
  w.optimizer.set_schedule_state(state);
  HOLDS(w.optimizer.lr() == trace[1]);
  adamw::schedule plateau(ADAMW_SCHEDULE_REDUCE_ON_PLATEAU);
  plateau.lr = 1;
  plateau.factor = 0.5;
  w.optimizer.set_schedule(plateau);
  w.optimizer.advance_schedule(1.0);
  w.optimizer.advance_schedule(2.0);
  HOLDS(w.optimizer.lr() == 0.5);
  w.optimizer.remove_schedule();
  w.optimizer.set_lr(0.25);
  HOLDS(w.optimizer.lr() == 0.25);
}

static void the_hosts_loop_and_what_it_throws() {
  adamw::config config;
  int thrown = 0, calls = 0;
  config.num_threads = 2;
  config.loop = [&](std::size_t num_tasks, const adamw::task &run) {
    calls++;
    if (thrown == 1)
      throw mine{5}; // before any work: the step is refused
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < num_tasks; i++)
      threads.emplace_back(run, i);
    for (std::thread &thread : threads)
      thread.join();
    if (thrown == 2)
      throw mine{6}; // after it: the step is taken
  };
  adamw::optimizer optimizer(config);
  std::vector<float> large(300000), grad(300000, 1.0f);
  const adamw::param number = optimizer.add("large", large);
  optimizer.set_grad(number, grad);
  optimizer.step();
  HOLDS(calls == 1 && optimizer.info(number).step == 1);
  thrown = 1;
  HOLDS(throws_mine([&] { optimizer.step(); }, 5) && optimizer.info(number).step == 1);
  thrown = 2;
  HOLDS(throws_mine([&] { optimizer.step(); }, 6) && optimizer.info(number).step == 2);
  // A step that measures first calls the loop twice; the first exception is the one that comes out.
  int throws_from = 1;
  config.clip = ADAMW_CLIP_GLOBAL_NORM;
  config.clip_norm = 1;
  config.loop = [&](std::size_t num_tasks, const adamw::task &run) {
    for (std::size_t i = 0; i < num_tasks; i++)
      run(i);
    if (++calls >= throws_from)
      throw mine{calls};
  };
  calls = 0;
  adamw::optimizer clipping(config);
  std::vector<float> other(large), other_grad(grad);
  clipping.set_grad(clipping.add("large", other), other_grad);
  HOLDS(throws_mine([&] { clipping.step(); }, 1) && calls == 2);
  // It comes out too if a C callback of that step has used another optimizer before.
  const adamw_lr_ratio in_c = [](const adamw_param_info *, double *out, void *another) {
    *out = static_cast<adamw::optimizer *>(another)->lr();
    return 0;
  };
  adamw_set_lr_ratio(clipping.get(), in_c, &optimizer);
  calls = 0;
  throws_from = 2;
  HOLDS(throws_mine([&] { clipping.step(); }, 2));
  thrown = 0;
  optimizer.step();
  HOLDS(optimizer.info(number).step == 3);
}

static void threads_are_shared_and_step_together() {
  std::vector<float> first(300000), second(first), grad(300000, 1.0f);
  std::vector<adamw::optimizer> optimizers;
  adamw::config config;
  {
    adamw::team team(3), moved(std::move(team));
    HOLDS(!team.get() && moved.get());
    config.team = moved.get();
    optimizers.emplace_back(config);
    optimizers.emplace_back(config);
    config.num_threads = 2;
    HOLDS(fails([&] { adamw::optimizer other(config); }, ADAMW_STATUS_INVALID_ARGUMENT));
    config.num_threads = 0;
  }
  HOLDS(fails([&] { adamw::optimizer late(config); }, ADAMW_STATUS_BAD_HANDLE));
  optimizers[0].set_grad(optimizers[0].add("w", first), grad);
  const adamw::param number = optimizers[1].add("w", second);
  optimizers[1].set_grad(number, grad);
  optimizers[0].step();
  HOLDS(optimizers[0].step_info().num_threads == 3);

  adamw::optimizer &together = optimizers[1];
  const auto step = [&] {
    together.step_begin();
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; i++)
      threads.emplace_back([&] { together.step_work(); });
    HOLDS(fails([&] { together.step(); }, ADAMW_STATUS_BUSY));
    for (std::thread &thread : threads)
      thread.join();
    together.step_end();
  };
  step();
  HOLDS(first == second && together.info(number).step == 1);
  together.set_lr_ratio([](const adamw_param_info &) -> double { throw mine{1}; });
  HOLDS(fails(step, ADAMW_STATUS_CALLBACK) && together.info(number).step == 1);
  HOLDS(fails([&] { together.step_end(); }, ADAMW_STATUS_NOT_FOUND));
}

static void minimize_and_pairs() {
  world w;
  const auto closure = [&] {
    w.optimizer.set_grad(w.first, w.grad_a); // the handle is free meanwhile
    return 0.75;
  };
  adamw::minimized result = w.optimizer.minimize(closure);
  HOLDS(result.loss == 0.75 && result.params.size() == 2);
  HOLDS(result.params[0].param == w.first && result.params[0].grad == w.grad_a.data());
  result = w.optimizer.minimize(closure, {w.first, w.second}, {w.first});
  HOLDS(result.params.size() == 1 && result.params[0].param == w.second && w.steps() == 1);
  HOLDS(throws_mine([&] { w.optimizer.minimize([]() -> double { throw mine{7}; }); }, 7));
  HOLDS(fails([&] { w.optimizer.minimize(closure, {adamw::param(9)}); }, ADAMW_STATUS_NOT_FOUND));
  HOLDS(w.steps() == 1);
  w.optimizer.apply_gradients({{w.first, w.grad_a}});
  HOLDS(w.steps() == 2 && w.optimizer.info(w.second).step == 2);
}

static void arrays_in_a_group_and_gradients_that_are_const() {
  adamw::optimizer optimizer;
  floats elements{1, 2};
  const floats grad{1, 1};
  const adamw::group group = optimizer.add_group(optimizer.group_config());
  HOLDS(optimizer.num_groups() == 2);
  const adamw::param number = optimizer.add("w", elements, group);
  HOLDS(optimizer.info(number).group == static_cast<std::uint32_t>(group));
  optimizer.set_grad(number, grad);
  optimizer.set_grads({{number, grad}});
  optimizer.step();
  optimizer.accumulate_grad(number, grad);
  optimizer.accumulate_grad(number, adamw::input(grad).get());
  optimizer.step();
  optimizer.apply_gradients({{number, grad}});
  HOLDS(optimizer.info(number).step == 3 && elements[0] < 1);
}

static void gradients_of_every_kind() {
  adamw::config config;
  config.lazy_mode = ADAMW_LAZY_EXACT;
  config.average_grads = 1;
  world w(config);
  w.optimizer.forget_grad(w.second);
  w.optimizer.step();
  HOLDS(w.steps() == 1 && w.optimizer.info(w.second).step == 0);
  w.optimizer.set_grads(std::vector<std::pair<adamw::param, adamw::gradient>>{{w.second, w.grad_b}});
  w.optimizer.clear_grad();
  HOLDS(w.grad_a[0] == 0);
  w.optimizer.clear_grad(adamw::clear::forget);
  w.optimizer.step();
  HOLDS(w.steps() == 1);
  w.optimizer.set_grad(w.second, w.grad_b);
  w.optimizer.grad_ready(w.second);
  std::vector<double> sums(4);
  w.optimizer.measure_grads(sums);
  w.optimizer.set_grad_sums(sums);
  HOLDS(w.optimizer.grad_norm().first == std::sqrt(sums[0] + sums[2]) && sums[3] == 0);
  w.optimizer.measure_again();
  w.optimizer.step(w.second);
  HOLDS(w.optimizer.info(w.second).step == 1);
  w.optimizer.step();
  HOLDS(w.optimizer.info(w.second).step == 1);
  const std::vector<std::int64_t> listed{2, 0};
  const std::int32_t one[] = {1};
  std::vector<float> values{1, 2};
  w.optimizer.set_sparse_grad(w.first, listed, values);
  w.optimizer.step();
  const float before = w.a[1];
  w.optimizer.sparse_prepare(w.first, one);
  HOLDS(w.a[1] != before && w.steps() == 2);
  w.optimizer.sparse_flush();
  w.grad_a = {3, 3, 3};
  w.optimizer.accumulate_grad(w.first, w.grad_a);
  w.optimizer.accumulate_grad(w.first, floats{3, 3, 3});
  w.optimizer.set_statistics(true);
  w.optimizer.step();
  HOLDS(w.steps() == 3 && w.optimizer.step_info().update_norm > 0);
}

static void an_allocator_is_the_handles() {
  adamw::config config;
  config.allocator.alloc = [](std::size_t, std::int32_t, void *) -> void * { return nullptr; };
  config.allocator.free = [](void *, std::size_t, std::int32_t, void *) {};
  adamw::optimizer optimizer(config); /* nothing takes memory on a device yet */
  HOLDS(optimizer.num_params() == 0 && optimizer.pinned_bytes() == 0);
  config.device_memory = ADAMW_DEVICE_MEMORY_POOL;
  HOLDS(fails([&] { adamw::optimizer both(config); }, ADAMW_STATUS_INVALID_ARGUMENT));
}

static void nothing_is_on_a_device() {
  world w;
  HOLDS(fails([&] { w.optimizer.set_stream(nullptr); }, ADAMW_STATUS_NOT_FOUND));
  HOLDS(fails([&] { w.optimizer.set_device_inputs(); }, ADAMW_STATUS_NOT_FOUND));
  HOLDS(fails([&] { w.optimizer.set_offload_timing(true); }, ADAMW_STATUS_NOT_FOUND));
  HOLDS(w.optimizer.offload_info().n_bytes_down == 0);
  HOLDS(fails([&] { w.optimizer.set_device_scale(nullptr); }, ADAMW_STATUS_NOT_FOUND));
  w.optimizer.prepare();
  HOLDS(w.steps() == 0);
  std::vector<float> c(2);
  adamw::param_config given{"c", c};
  given.offload = true;
  HOLDS(fails([&] { w.optimizer.add(given); }, ADAMW_STATUS_INVALID_ARGUMENT));
}

static void groups_options_and_scales() {
  world w;
  adamw_group_config values = w.optimizer.group_config();
  values.lr_scale = 3;
  const adamw::group number = w.optimizer.add_group(values);
  adamw_param_options options = w.optimizer.options(w.first);
  options.group = static_cast<std::uint32_t>(number);
  w.optimizer.set_options(w.first, options);
  values.lr_scale = 5;
  w.optimizer.set_values(number, values);
  HOLDS(w.optimizer.values(number).lr_scale == 5 && w.optimizer.lr(w.first) == 0.005);
  HOLDS(w.optimizer.find("b") == w.second && w.optimizer.num_params() == 2);
  HOLDS(fails([&] { w.optimizer.find("x"); }, ADAMW_STATUS_NOT_FOUND));

  w.optimizer.set_grad_scale(4);
  HOLDS(w.optimizer.grad_scale() == 4);
  w.optimizer.set_loss_scaler();
  HOLDS(w.optimizer.grad_scale() == 65536);
  adamw_loss_scaler_state state = w.optimizer.loss_scaler_state();
  state.scale = 8;
  w.optimizer.set_loss_scaler_state(state);
  HOLDS(w.optimizer.grad_scale() == 8);
  w.optimizer.remove_loss_scaler();
  float flag = 1;
  w.optimizer.set_found_inf(&flag, nullptr);
  w.optimizer.step();
  HOLDS(w.steps() == 0 && w.optimizer.step_info().skipped == 1);
}

static void state_is_seen_and_named() {
  world w;
  w.optimizer.step();
  const adamw::state exp_avg = w.optimizer.state(w.first, ADAMW_BUFFER_EXP_AVG);
  HOLDS(exp_avg.n_elements == 3 && exp_avg.as<float>()[0] != 0);
  HOLDS(throws<adamw::error>([&] { exp_avg.as<double>(); }, [](const adamw::error &) { return true; }));
  const std::string name = w.optimizer.state_name(w.first, ADAMW_BUFFER_EXP_AVG);
  HOLDS(name == "state.a.exp_avg");
  HOLDS(w.optimizer.state_name(w.first, ADAMW_BUFFER_EXP_AVG, ADAMW_NAMES_PADDLE) == "a_moment1_0");
  HOLDS(w.optimizer.find_state(name) == std::make_pair(w.first, adamw_buffer(ADAMW_BUFFER_EXP_AVG)));
  HOLDS(w.optimizer.memory_plan(adamw::dtype::f32, 3).total == 24);
  const auto ranges = adamw::shard_ranges({1000, 2000, 600}, 1, 3, 256);
  HOLDS(ranges.size() == 3 && ranges[0].second == 0);
  HOLDS(ranges[1] == std::make_pair(std::uint64_t{256}, std::uint64_t{1024}));
  std::vector<float> copy(3);
  w.optimizer.get_state(name, copy);
  HOLDS(copy[2] == exp_avg.as<float>()[2]);
  copy[2] = 7;
  w.optimizer.set_state(name, copy);
  HOLDS(exp_avg.as<float>()[2] == 7);
  w.optimizer.reset(w.first);
  HOLDS(w.steps() == 0 && exp_avg.as<float>()[2] == 0);
  w.optimizer.remove(w.first);
  HOLDS(fails([&] { w.optimizer.info(w.first); }, ADAMW_STATUS_NOT_FOUND));
}

static void state_of_the_hosts() {
  adamw::config config;
  config.multi_precision = 1;
  adamw::optimizer optimizer(config);
  std::vector<std::uint16_t> bf16{0x3f80, 0x4000}, grad{0x3f80, 0x3f80};
  std::vector<float> master(2), exp_avg(2), exp_avg_sq(2), elsewhere(2);
  const adamw::tensor masters(master), means(exp_avg), squares(exp_avg_sq);
  adamw::param_config given{"w", {bf16.data(), 2, adamw::dtype::bf16}};
  given.master = &masters;
  given.exp_avg = &means;
  given.exp_avg_sq = &squares;
  const adamw::param number = optimizer.add(given);
  optimizer.sync_master(number);
  HOLDS(master[0] == 1 && master[1] == 2);
  optimizer.set_grad(number, {grad.data(), 2, adamw::dtype::bf16});
  optimizer.step();
  HOLDS(master[0] < 1 && exp_avg[0] != 0);
  elsewhere = exp_avg;
  optimizer.rebind(number, ADAMW_BUFFER_EXP_AVG, elsewhere);
  exp_avg = {0, 0};
  optimizer.step();
  HOLDS(exp_avg[0] == 0 && elsewhere[0] != 0);
  // Several at once: all or, since one of them is too short, none.
  const float was = elsewhere[0];
  std::vector<float> squares_elsewhere(exp_avg_sq), too_short(1);
  exp_avg = elsewhere;
  HOLDS(fails([&] {
    optimizer.rebind({{number, ADAMW_BUFFER_EXP_AVG, exp_avg}, {number, ADAMW_BUFFER_EXP_AVG_SQ, too_short}});
  }, ADAMW_STATUS_INVALID_ARGUMENT));
  optimizer.step();
  HOLDS(exp_avg[0] == was && elsewhere[0] != was);
  exp_avg = elsewhere;
  squares_elsewhere = exp_avg_sq;
  optimizer.rebind({{number, ADAMW_BUFFER_EXP_AVG, exp_avg}, {number, ADAMW_BUFFER_EXP_AVG_SQ, squares_elsewhere}});
  optimizer.step();
  HOLDS(exp_avg[0] != elsewhere[0] && squares_elsewhere[0] != exp_avg_sq[0]);
  // Parked: what it had is free, and steps pass over it.
  optimizer.park(number, {ADAMW_BUFFER_PARAM, ADAMW_BUFFER_EXP_AVG});
  elsewhere = {7, 7};
  HOLDS(fails([&] { optimizer.sync_master(number); }, ADAMW_STATUS_INVALID_ARGUMENT));
  optimizer.step();
  HOLDS(elsewhere[0] == 7);
  optimizer.rebind({{number, ADAMW_BUFFER_EXP_AVG, exp_avg},
                    {number, ADAMW_BUFFER_PARAM, {bf16.data(), 2, adamw::dtype::bf16}}});
  optimizer.park(number);
}

// A field that adamw_param_config gets must get its place in adamw::param_config too.
static_assert(sizeof(adamw_param_config) == 144, "adamw::param_config has every field of the C struct");

static void a_remainder_of_the_hosts() {
  adamw::config config;
  config.precision = ADAMW_PRECISION_SPLIT;
  adamw::optimizer optimizer(config);
  std::vector<std::uint16_t> bf16{0x3f80, 0x4000};
  std::vector<std::int16_t> remainder(2);
  std::vector<float> grad{1, 1};
  const adamw::tensor remainders(remainder);
  adamw::param_config given{"w", {bf16.data(), 2, adamw::dtype::bf16}};
  given.remainder = &remainders;
  const adamw::param number = optimizer.add(given);
  optimizer.set_grad(number, grad);
  optimizer.step();
  HOLDS(remainder[0] != 0 && optimizer.state(number, ADAMW_BUFFER_REMAINDER).as<std::int16_t>() == remainder.data());
}

static void moments_of_the_hosts_in_eight_bits() {
  adamw::config config;
  config.moments = ADAMW_MOMENTS_8BIT;
  adamw::optimizer optimizer(config);
  std::vector<float> weights(4096, 1.0f), grad(4096, 1.0f), scales(3 * 16);
  std::vector<std::uint8_t> codes(2 * 4096);
  const adamw::tensor exp_avg(codes.data(), 4096, adamw::dtype::u8);
  const adamw::tensor exp_avg_sq(codes.data() + 4096, 4096, adamw::dtype::u8);
  const adamw::tensor scale(scales.data(), 16, adamw::dtype::f32), scale_sq(scales.data() + 16, 16, adamw::dtype::f32);
  adamw::param_config given{"w", weights};
  given.exp_avg = &exp_avg, given.exp_avg_sq = &exp_avg_sq;
  given.exp_avg_scale = &scale, given.exp_avg_sq_scale = &scale_sq;
  optimizer.set_grad(optimizer.add(given), grad);
  optimizer.step();
  HOLDS(codes[0] == 127 && codes[4096] == 255 && scales[0] > 0.09f && scales[0] < 0.11f);
}

static void what_the_library_says() {
  HOLDS(std::string(adamw::version()) == std::to_string(ADAMW_VERSION_MAJOR) + "." +
                                             std::to_string(ADAMW_VERSION_MINOR) + "." +
                                             std::to_string(ADAMW_VERSION_PATCH));
  HOLDS(adamw::capabilities().num_cpus > 0);
  HOLDS(std::string(adamw::status_name(ADAMW_STATUS_BUSY)) == "ADAMW_STATUS_BUSY");
  adamw::config config;
  config.beta1 = 2;
  HOLDS(fails([&] { adamw::optimizer optimizer(config); }, ADAMW_STATUS_INVALID_ARGUMENT));
}

static void checkpoints_of_every_kind() {
  world w, other;
  w.optimizer.step();
  adamw_save_args args{};
  const std::uint64_t n = w.optimizer.saved_size();
  HOLDS(fails([&] { w.optimizer.save(args); }, ADAMW_STATUS_INVALID_ARGUMENT));
  std::vector<char> bytes(n);
  args.data = bytes.data();
  args.capacity = bytes.size();
  HOLDS(w.optimizer.save(args) == n);
  adamw_source source{};
  source.data = bytes.data();
  source.num_bytes = bytes.size();
  HOLDS(other.optimizer.info(other.second).step == 0);
  other.optimizer.load({source});
  HOLDS(other.optimizer.info(other.second).step == 1);

  w.optimizer.step();
  w.optimizer.save("classes.safetensors");
  other.optimizer.load("classes.safetensors");
  HOLDS(other.optimizer.info(other.second).step == 2);
  HOLDS(fails([&] { other.optimizer.load("no/such/file"); }, ADAMW_STATUS_IO));
  w.optimizer.save_begin("classes.safetensors");
  w.optimizer.step();
  const adamw::optimizer::saved saved = w.optimizer.save_wait();
  HOLDS(saved.num_bytes == n && saved.durable);
  const adamw::optimizer::save_progress progress = w.optimizer.save_poll();
  HOLDS(!progress.running && progress.done == progress.total && progress.total > 0);
  other.optimizer.load("classes.safetensors");
  HOLDS(other.optimizer.info(other.second).step == 2);
  HOLDS(fails([&] { w.optimizer.save_begin("no/such/file"); }, ADAMW_STATUS_IO));
  bytes[bytes.size() - 1] ^= 1;
  HOLDS(fails([&] { other.optimizer.load({source}); }, ADAMW_STATUS_CORRUPT));
  bytes[bytes.size() - 1] ^= 1;

  int texts = 0, tensors = 0;
  adamw::inspect(source, [&](const adamw_entry &entry) { (entry.text ? texts : tensors)++; });
  HOLDS(texts == 8 && tensors == 12);
  try {
    adamw::inspect(source, [](const adamw_entry &) { throw 7; });
    HOLDS(!"reached");
  } catch (int thrown) {
    HOLDS(thrown == 7);
  }
}

int main() {
  owners_move_and_end();
  elements_come_from_any_container();
  callbacks_are_lambdas_and_their_exceptions_come_out();
  a_handle_can_be_released_without_callbacks();
  callbacks_live_as_long_as_the_library_may_call_them();
  an_owner_may_be_lost_in_a_callback();
  what_a_callback_throws_belongs_to_its_call();
  schedules_of_both_kinds();
  the_hosts_loop_and_what_it_throws();
  threads_are_shared_and_step_together();
  minimize_and_pairs();
  arrays_in_a_group_and_gradients_that_are_const();
  gradients_of_every_kind();
  an_allocator_is_the_handles();
  nothing_is_on_a_device();
  groups_options_and_scales();
  state_is_seen_and_named();
  state_of_the_hosts();
  a_remainder_of_the_hosts();
  moments_of_the_hosts_in_eight_bits();
  checkpoints_of_every_kind();
  what_the_library_says();
  return failures == 0 ? 0 : 1;
}
