#include <adamw.hpp>

#include <vector>

int main() {
  std::vector<float> weights{1, 2}, grad{1, 1};

  adamw::optimizer optimizer;
  const adamw::param w = optimizer.add("w", weights); // a std::vector<float> of yours
  optimizer.set_grad(w, grad);
  optimizer.step();

  return weights[0] < 1 ? 0 : 1;
}
