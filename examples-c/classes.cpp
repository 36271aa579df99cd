// The same library from C++: an owner, lambdas, exceptions. Fits a line to points with two groups, a
// warmup and a weight decay that a lambda keeps off the intercept.
#include <adamw.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <stdexcept>
#include <vector>

int main() {
  const std::array<float, 5> x{-2, -1, 0, 1, 2}, y{-5, -3, -1, 1, 3}; // slope 2, intercept -1
  std::vector<float> slope{0}, intercept{0}; // stay ours, are updated in place
  std::vector<float> grad_slope{0}, grad_intercept{0};

  adamw::config config; // the usual defaults
  config.weight_decay = 1e-4;
  config.clip = ADAMW_CLIP_GLOBAL_NORM;
  config.clip_norm = 10;
  adamw::optimizer optimizer(config);

  adamw_group_config values = optimizer.group_config();
  values.lr_scale = 0.5;
  const adamw::group slow = optimizer.add_group(values);

  const adamw::param first = optimizer.add("slope", slope);
  adamw::param_config second{"intercept", intercept};
  second.group = slow;
  optimizer.set_grads({{first, grad_slope}, {optimizer.add(second), grad_intercept}});
  optimizer.set_decay_filter([](std::string_view name) { return name != "intercept"; });
  optimizer.set_schedule(
      [](std::uint64_t step) { return 0.05 * std::min(1.0, double(step + 1) / 100); });

  double loss = 0;
  for (int step = 0; step < 2000; step++) {
    loss = optimizer.minimize([&] {
      double sum = 0;
      grad_slope[0] = grad_intercept[0] = 0;
      for (std::size_t i = 0; i < x.size(); i++) {
        const float error = slope[0] * x[i] + intercept[0] - y[i];
        grad_slope[0] += error * x[i] * 2 / 5;
        grad_intercept[0] += error * 2 / 5;
        sum += error * error / 5;
      }
      return sum;
    }).loss;
  }
  std::printf("slope %.3f, intercept %.3f, loss %.2e\n", slope[0], intercept[0], loss);

  try { // what a callback throws comes out of the call that led to it, and nothing has changed
    optimizer.minimize([]() -> double { throw std::runtime_error("the data ran out"); });
    return 1;
  } catch (const std::runtime_error &error) {
    std::printf("as it should be: %s\n", error.what());
  }

  try {
    optimizer.add("slope", intercept);
    return 1;
  } catch (const adamw::error &error) {
    std::printf("as it should be: %s\n", error.what());
  }
  return std::fabs(slope[0] - 2) < 1e-2 && std::fabs(intercept[0] + 1) < 1e-2 ? 0 : 1;
}
