// adamw.hpp without exceptions: callbacks answer as they do with them, and a failure prints its text and aborts.
#include <adamw.hpp>

#include <string_view>
#include <vector>

int main() {
  std::vector<float> weights{1, 2}, grad{1, 1};
  adamw::optimizer optimizer;
  bool was_asked = false;
  optimizer.set_decay_filter([&](std::string_view name) { return was_asked = name == "w"; });
  const adamw::param w = optimizer.add("w", weights);
  optimizer.set_grad(w, grad);
  optimizer.step();
  if (!was_asked || !(weights[0] < 1))
    return 1;

  optimizer.reset(adamw::param(7)); // there is no such parameter
  return 0;
}
