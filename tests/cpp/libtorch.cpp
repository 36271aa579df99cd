// adamw::libtorch::AdamW beside torch::optim::AdamW, on equal parameters with equal gradients.
#include <adamw/libtorch.hpp>

#include <torch/torch.h>

#include <cstdio>
#include <functional>
#include <sstream>

using torch::Tensor;
using options = torch::optim::AdamWOptions;
using torch::indexing::Slice;

static int failures = 0;

static void holds(bool condition, const std::string &what, int line) {
  if (!condition) {
    std::fprintf(stderr, "line %d: %s\n", line, what.c_str());
    failures++;
  }
}
#define HOLDS(...) holds((__VA_ARGS__), #__VA_ARGS__, __LINE__)

// Whether `work` throws an exception whose text has `part`.
static bool throws(const std::function<void()> &work, const std::string &part) {
  try {
    work();
  } catch (const std::exception &thrown) {
    return std::string(thrown.what()).find(part) != std::string::npos;
  }
  return false;
}

// Parameters of the shapes and orders of memory that libtorch's users have.
static std::vector<Tensor> parameters(torch::ScalarType type) {
  torch::manual_seed(7);
  const auto draw = [&](at::IntArrayRef shape) { return torch::randn(shape).to(type); };
  return {draw({10, 5}),
          draw({}),
          draw({1}),
          draw({0, 3}),
          draw({6, 7}).t(),
          draw({2, 3, 4, 5}).contiguous(torch::MemoryFormat::ChannelsLast),
          draw({9, 8}).index({Slice(), Slice(0, 8, 2)}),
          draw({3000})};
}

// Returns a copy in the same order of memory, gaps included.
static Tensor like(const Tensor &given) {
  const auto length = static_cast<std::int64_t>(given.storage().nbytes() / given.element_size());
  const Tensor memory = torch::zeros(length, given.options());
  return memory.as_strided(given.sizes(), given.strides()).copy_(given.detach()).requires_grad_();
}

// Returns the largest difference of two tensors over the largest element of the second.
static double distance(const Tensor &a, const Tensor &b) {
  if (!a.numel())
    return 0;
  const Tensor x = a.detach().to(torch::kFloat64), y = b.detach().to(torch::kFloat64);
  return ((x - y).abs().max() / y.abs().max()).item<double>();
}

using groups = std::function<std::vector<torch::optim::OptimizerParamGroup>(std::vector<Tensor>)>;

static std::vector<torch::optim::OptimizerParamGroup> one_group(std::vector<Tensor> params) {
  return {torch::optim::OptimizerParamGroup(std::move(params))};
}

struct pair {
  std::vector<Tensor> theirs, ours;
  torch::optim::AdamW torch;
  adamw::libtorch::AdamW adamw;

  explicit pair(const std::vector<Tensor> &starts, const options &defaults = {},
                const groups &grouped = one_group)
      : theirs(copies(starts)), ours(copies(starts)), torch(grouped(theirs), defaults),
        adamw(grouped(ours), defaults) {}

  static std::vector<Tensor> copies(const std::vector<Tensor> &starts) {
    std::vector<Tensor> made;
    for (const Tensor &start : starts)
      made.push_back(like(start));
    return made;
  }

  // Gives both the same gradients, and none to one parameter.
  void gradients(std::size_t absent = SIZE_MAX) {
    for (std::size_t i = 0; i < ours.size(); i++) {
      const Tensor noise = torch::randn(ours[i].sizes()).to(ours[i].scalar_type());
      for (Tensor *param : {&theirs[i], &ours[i]})
        param->mutable_grad() = i == absent ? Tensor() : torch::empty_like(*param).copy_(noise);
    }
  }

  void step(std::size_t absent = SIZE_MAX) {
    gradients(absent);
    torch.step();
    adamw.step();
  }

  double error() const {
    double largest = 0;
    for (std::size_t i = 0; i < ours.size(); i++)
      largest = std::max(largest, distance(ours[i], theirs[i]));
    return largest;
  }
};

static constexpr double NEAR = 1e-5, NEAR_F64 = 2e-12;

static void steps_as_torch_does() {
  const groups two = [](std::vector<Tensor> params) {
    std::vector<torch::optim::OptimizerParamGroup> made;
    made.emplace_back(std::vector<Tensor>(params.begin(), params.begin() + 3));
    made.emplace_back(std::vector<Tensor>(params.begin() + 3, params.end()),
                      std::make_unique<options>(options(0.02).weight_decay(0).amsgrad(true)));
    return made;
  };
  const std::vector<options> choices = {
      options(),
      options(0.01).weight_decay(0.1),
      options(0.01).betas({0.6, 0.9}).eps(1e-3),
      options(0.01).amsgrad(true),
  };
  for (const auto type : {torch::kFloat32, torch::kFloat64})
    for (const options &chosen : choices)
      for (const groups &grouped : {groups(one_group), two}) {
        pair both(parameters(type), chosen, grouped);
        for (std::size_t i = 0; i < 100; i++)
          both.step(i % 3 ? SIZE_MAX : i % 8);
        HOLDS(both.error() <= (type == torch::kFloat32 ? NEAR : NEAR_F64));
      }
}

static void short_types_are_stepped_in_f32() {
  for (const auto type : {torch::kFloat16, torch::kBFloat16}) {
    pair both(parameters(type), options(0.01).eps(1e-4));
    pair exact(parameters(type), options(0.01).eps(1e-4));
    for (std::size_t i = 0; i < exact.theirs.size(); i++)
      exact.theirs[i].set_data(exact.theirs[i].detach().to(torch::kFloat64));
    for (int i = 0; i < 100; i++) {
      both.step();
      for (std::size_t j = 0; j < exact.theirs.size(); j++)
        exact.theirs[j].mutable_grad() = both.theirs[j].grad().to(torch::kFloat64);
      exact.torch.step();
    }
    const auto error = [&](const std::vector<Tensor> &params) {
      double sum = 0;
      for (std::size_t i = 0; i < params.size(); i++)
        sum += (params[i].detach().to(torch::kFloat64) - exact.theirs[i].detach())
                   .square()
                   .sum()
                   .item<double>();
      return sum;
    };
    HOLDS(error(both.ours) < error(both.theirs));
  }
}

static void options_and_groups_change_between_steps() {
  std::vector<Tensor> starts = parameters(torch::kFloat64);
  starts.push_back(torch::randn({6, 6}, torch::kFloat64));
  pair both(starts, options().amsgrad(true));
  for (int i = 0; i < 5; i++)
    both.step();
  const auto each = [&](const auto &change) {
    change(static_cast<torch::optim::AdamW &>(both.torch), both.theirs);
    change(static_cast<torch::optim::AdamW &>(both.adamw), both.ours);
    for (int i = 0; i < 5; i++)
      both.step();
    HOLDS(both.error() <= NEAR_F64);
  };
  each([](torch::optim::AdamW &optimizer, auto &) {
    auto &now = static_cast<options &>(optimizer.param_groups()[0].options());
    now.lr(0.003).betas({0.8, 0.95}).eps(1e-6).weight_decay(0);
  });
  each([](torch::optim::AdamW &optimizer, auto &) {
    static_cast<options &>(optimizer.param_groups()[0].options()).amsgrad(false);
  });
  each([](torch::optim::AdamW &optimizer, auto &params) {
    params.push_back(torch::linspace(-1, 1, 50, torch::kFloat64).requires_grad_());
    optimizer.add_param_group(
        torch::optim::OptimizerParamGroup({params.back()}, std::make_unique<options>(0.02)));
  });
  each([](torch::optim::AdamW &, auto &params) {
    params[0].set_data(params[0].detach().clone());
  });
  each([](torch::optim::AdamW &, auto &params) { // another order of the same memory
    params[8].set_data(params[8].detach().t());
  });
  each([](torch::optim::AdamW &, auto &params) {
    torch::NoGradGuard disabled;
    params[6].mul_(0.5);
    params[7].mul_(0.5);
  });
  const auto state_of = [](torch::optim::AdamW &optimizer, const Tensor &param) -> auto & {
    return static_cast<torch::optim::AdamWParamState &>(
        *optimizer.state().at(param.unsafeGetTensorImpl()));
  };
  each([&](torch::optim::AdamW &optimizer, auto &params) {
    auto &state = state_of(optimizer, params[7]);
    state.exp_avg().mul_(0.5);
    state.exp_avg_sq(state.exp_avg_sq() * 0.5);
  });
  each([&](torch::optim::AdamW &optimizer, auto &params) {
    auto &state = state_of(optimizer, params[7]);
    state.step(state.step() + 7);
  });
  each([](torch::optim::AdamW &optimizer, auto &params) {
    optimizer.state().erase(params[0].unsafeGetTensorImpl());
  });
}

static void schedulers_and_closures_work() {
  pair both({torch::randn({8, 4}), torch::randn({8})}, options(0.01));
  torch::optim::StepLR first(both.torch, 5, 0.5), second(both.adamw, 5, 0.5);
  for (int i = 0; i < 20; i++) {
    const Tensor x = torch::randn({16, 4});
    const auto closure = [&](torch::optim::Optimizer &optimizer, std::vector<Tensor> &params) {
      return [&] {
        optimizer.zero_grad(i % 2 == 0);
        const Tensor loss = (torch::tanh(x.mm(params[0].t()) + params[1]) - 1).square().mean();
        loss.backward();
        return loss;
      };
    };
    const Tensor theirs = both.torch.step(closure(both.torch, both.theirs));
    const Tensor ours = both.adamw.step(closure(both.adamw, both.ours));
    HOLDS(distance(ours, theirs) <= NEAR);
    first.step();
    second.step();
  }
  HOLDS(both.error() <= NEAR);
}

static void a_model_is_trained() {
  torch::nn::Linear model(4, 1);
  adamw::libtorch::AdamW optimizer(model->parameters(), torch::optim::AdamWOptions(0.01));
  optimizer.clip_norm = 1; // inside the step: no clip_grad_norm_
  torch::optim::StepLR schedule(optimizer, 100, 0.5);
  torch::Tensor loss;
  for (int step = 0; step < 300; step++) {
    optimizer.zero_grad();
    const torch::Tensor x = torch::randn({16, 4});
    loss = (model->forward(x) - x.sum(1, true)).square().mean();
    loss.backward();
    optimizer.step();
    schedule.step();
  }
  HOLDS(loss.item<float>() < 0.1);
}

static void archives_go_both_ways() {
  pair both(parameters(torch::kFloat64), options(0.01).amsgrad(true));
  for (int i = 0; i < 10; i++)
    both.step(2); // one never has a gradient
  std::stringstream theirs, ours;
  torch::save(both.torch, theirs);
  torch::save(both.adamw, ours);
  pair next(both.ours, options(0.5).amsgrad(true));
  torch::load(next.torch, ours);
  torch::load(next.adamw, theirs);
  HOLDS(static_cast<options &>(next.adamw.param_groups()[0].options()).lr() == 0.01);
  for (int i = 0; i < 10; i++)
    next.step();
  HOLDS(next.error() <= NEAR_F64);
  torch::load(next.adamw, theirs = std::stringstream(ours.str())); // while it is in use
  torch::load(next.torch, ours = std::stringstream(ours.str()));
  for (int i = 0; i < 10; i++)
    next.step();
  HOLDS(next.error() <= 1e-10);
}

static void gradients_of_other_kinds() {
  pair both(parameters(torch::kFloat64));
  for (int i = 0; i < 10; i++) {
    both.gradients();
    for (std::vector<Tensor> *params : {&both.theirs, &both.ours}) {
      Tensor &turned = (*params)[0], &wide = (*params)[7], &last = (*params)[5];
      turned.mutable_grad() = turned.grad().t().contiguous().t();
      wide.mutable_grad() = torch::ones({1}, torch::kFloat64).expand(3000);
      last.mutable_grad() = last.grad().contiguous();
    }
    both.torch.step();
    both.adamw.step();
  }
  HOLDS(both.error() <= NEAR_F64);
}

static void clips_and_clears_in_the_step() {
  pair both(parameters(torch::kFloat64));
  both.adamw.clip_norm = 0.7;
  both.adamw.clear_grads = true;
  for (int i = 0; i < 20; i++) {
    both.gradients();
    both.ours[0].mutable_grad() = both.ours[0].grad().t().contiguous().t(); // which is copied
    const double norm = torch::nn::utils::clip_grad_norm_(both.theirs, 0.7);
    both.torch.step();
    both.adamw.step();
    HOLDS(std::abs(both.adamw.grad_norm() / norm - 1) <= 1e-12);
    for (const Tensor &param : both.ours)
      HOLDS(!param.grad().any().item<bool>());
  }
  HOLDS(both.error() <= 1e-5); // clip_grad_norm_ adds 1e-6 to the norm
  both.adamw.clip_norm = 0;
  both.step();
  HOLDS(std::isnan(both.adamw.grad_norm()) && !both.ours[0].grad().any().item<bool>());
  both.adamw.clear_grads = false;
  both.step();
  HOLDS(both.ours[0].grad().any().item<bool>());
}

static void refuses_what_it_cannot_step() {
  const auto stepped = [](const Tensor &param, const Tensor &grad) {
    return [=] {
      Tensor leaf = param.detach().requires_grad_();
      leaf.mutable_grad() = grad;
      adamw::libtorch::AdamW(std::vector<Tensor>{leaf}).step();
    };
  };
  const Tensor row = torch::ones(3);
  HOLDS(throws(stepped(row, row.to_sparse()), "sparse gradients"));
  const Tensor numbers = torch::complex(row, row);
  HOLDS(throws(stepped(numbers, numbers), "parameter 0 has c10::complex<float>"));
  const Tensor meta = row.to(torch::kMeta);
  HOLDS(throws(stepped(meta, meta), "parameter 0 is on meta"));
  HOLDS(throws([] { adamw::libtorch::AdamW(std::vector<Tensor>{}, options(-1)); },
               "Invalid learning rate"));

  Tensor leaf = torch::ones(4).requires_grad_();
  Tensor first = leaf.detach().slice(0, 0, 3).requires_grad_();
  leaf.mutable_grad() = torch::ones(4);
  first.mutable_grad() = torch::ones(3);
  HOLDS(throws([&] { adamw::libtorch::AdamW(std::vector<Tensor>{leaf, first}).step(); },
               "overlaps"));
}

static void a_step_counts_as_a_write_for_autograd() {
  pair both({torch::randn({5})});
  const auto check = [](torch::optim::Optimizer &optimizer, Tensor &param) {
    const Tensor loss = param.square().sum();
    param.mutable_grad() = torch::ones({5});
    optimizer.step();
    HOLDS(throws([&] { loss.backward(); }, "modified by an inplace operation"));
  };
  check(both.torch, both.theirs[0]);
  check(both.adamw, both.ours[0]);
}

static void bits_do_not_depend_on_threads() {
  std::vector<Tensor> ends;
  for (const int threads : {1, 2}) {
    torch::set_num_threads(threads);
    torch::manual_seed(3);
    Tensor param = torch::randn(600000).requires_grad_();
    adamw::libtorch::AdamW optimizer(std::vector<Tensor>{param});
    optimizer.clip_norm = 1;
    for (int i = 0; i < 3; i++) {
      param.mutable_grad() = torch::randn(600000);
      optimizer.step();
    }
    ends.push_back(param.detach());
  }
  HOLDS(torch::equal(ends[0], ends[1]));
}

int main() {
  steps_as_torch_does();
  short_types_are_stepped_in_f32();
  options_and_groups_change_between_steps();
  schedulers_and_closures_work();
  a_model_is_trained();
  archives_go_both_ways();
  gradients_of_other_kinds();
  clips_and_clears_in_the_step();
  refuses_what_it_cannot_step();
  a_step_counts_as_a_write_for_autograd();
  bits_do_not_depend_on_threads();
  return failures != 0;
}
