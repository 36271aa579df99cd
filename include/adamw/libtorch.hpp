// adamw::libtorch::AdamW: the library's step for C++ programs on libtorch. Header only, in the
// C++ that libtorch needs: 20 since its version 2.15.
//
//   adamw::libtorch::AdamW optimizer(model->parameters(), torch::optim::AdamWOptions(3e-4));
//
// It takes the place of torch::optim::AdamW, which it is: with its options, groups, schedulers,
// archives and errors, and its state in the same tensors, on which the library works. Parameters
// are in the host's memory. They are stepped with as many threads as libtorch computes with.
#ifndef ADAMW_LIBTORCH_HPP
#define ADAMW_LIBTORCH_HPP

#include <adamw.hpp>

#include <ATen/Parallel.h>
#include <torch/optim/adamw.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace adamw::libtorch {

class AdamW : public torch::optim::AdamW {
public:
  // As torch::optim::AdamW: parameters or groups of them, and options.
  using torch::optim::AdamW::AdamW;

  // The largest norm of all gradients together; 0: any. The step clips, and rewrites no gradient.
  double clip_norm = 0;
  // Whether the step writes zeros over the gradients.
  bool clear_grads = false;

  // Returns the norm of the last step's gradients, before it clipped them; NaN without clip_norm.
  double grad_norm() const noexcept { return grad_norm_; }

  // Steps every parameter that has a gradient, and returns the loss of the closure.
  torch::Tensor step(LossClosure closure = nullptr) override {
    torch::Tensor loss;
    if (closure) {
      at::AutoGradMode enabled(true);
      loss = closure();
    }
    torch::NoGradGuard disabled;
    if (!is_current())
      begin();
    tell_groups();
    const copies kept = tell_gradients();
    handle_->step();
    finish(kept);
    return loss;
  }

private:
  using options = torch::optim::AdamWOptions;
  using param_state = torch::optim::AdamWParamState;

  // A parameter that has, or has had, a gradient.
  struct member {
    torch::Tensor param;
    // The memory that the parameter had when the library was told of it.
    torch::Tensor memory;
    // What the library steps in its place, if there are gaps between its elements.
    torch::Tensor copy;
    std::size_t group;
    param_state *state;
    std::int64_t steps;
    std::array<const void *, 4> addresses;
  };

  // What has been told to the library of a group.
  struct told {
    double lr, beta1, beta2, eps, weight_decay;
    bool amsgrad;

    explicit told(const options &now)
        : lr(now.lr()), beta1(std::get<0>(now.betas())), beta2(std::get<1>(now.betas())),
          eps(now.eps()), weight_decay(now.weight_decay()), amsgrad(now.amsgrad()) {}

    bool operator==(const told &other) const {
      return std::tie(lr, beta1, beta2, eps, weight_decay, amsgrad) ==
             std::tie(other.lr, other.beta1, other.beta2, other.eps, other.weight_decay,
                      other.amsgrad);
    }
  };

  // Gradients in another type or order than their parameters, as the library reads them.
  using copies = std::vector<torch::Tensor>;

  static std::optional<dtype> stepped(const torch::Tensor &tensor) {
    switch (tensor.scalar_type()) {
    case torch::kFloat32: return dtype::f32;
    case torch::kFloat64: return dtype::f64;
    case torch::kFloat16: return dtype::f16;
    case torch::kBFloat16: return dtype::bf16;
    default: return std::nullopt;
    }
  }

  static tensor described(const torch::Tensor &given) {
    return {given.data_ptr(), static_cast<std::size_t>(given.numel()), *stepped(given)};
  }

  // Whether the elements of two tensors lie in one order.
  static bool alike(const torch::Tensor &a, const torch::Tensor &b) {
    if (a.sizes() != b.sizes() || a.scalar_type() != b.scalar_type() || a.device() != b.device())
      return false;
    for (std::int64_t i = 0; i < a.dim(); i++)
      if (a.size(i) != 1 && a.stride(i) != b.stride(i))
        return false;
    return true;
  }

  static std::array<const void *, 4> addresses(const torch::Tensor &param,
                                               const param_state &state) {
    const auto address = [](const torch::Tensor &tensor) {
      return tensor.defined() ? tensor.data_ptr() : nullptr;
    };
    return {param.data_ptr(), address(state.exp_avg()), address(state.exp_avg_sq()),
            address(state.max_exp_avg_sq())};
  }

  const options &options_of(std::size_t group) const {
    return static_cast<const options &>(param_groups_[group].options());
  }

  // Whether the library knows these parameters, their state and their steps as they are now.
  bool is_current() {
    if (!handle_ || threads_ != at::get_num_threads() || clip_norm != told_clip_norm_ ||
        clear_grads != told_clear_grads_ || groups_.size() != param_groups_.size())
      return false;
    std::size_t known = 0;
    for (std::size_t group = 0; group < param_groups_.size(); group++) {
      if (options_of(group).amsgrad() != groups_[group].amsgrad)
        return false;
      for (const torch::Tensor &param : param_groups_[group].params()) {
        const auto found = state_.find(param.unsafeGetTensorImpl());
        if (found == state_.end() && !param.grad().defined())
          continue;
        if (found == state_.end() || known == members_.size())
          return false;
        const member &one = members_[known++];
        param_state &state = static_cast<param_state &>(*found->second);
        if (!one.param.is_same(param) || one.group != group || one.state != &state ||
            one.steps != state.step() || one.addresses != addresses(param, state) ||
            !alike(param, one.memory))
          return false;
      }
    }
    return known == members_.size();
  }

  // Makes a handle of all parameters that have a gradient or state.
  void begin() {
    handle_.reset();
    members_.clear();
    groups_.clear();
    config chosen;
    chosen.lr = 1;
    chosen.num_threads = static_cast<std::uint32_t>(threads_ = at::get_num_threads());
    chosen.bias_correction = ADAMW_BIAS_CORRECTION_CURRENT;
    chosen.clear_grads = told_clear_grads_ = clear_grads;
    told_clip_norm_ = clip_norm;
    chosen.clip = clip_norm > 0 ? ADAMW_CLIP_GLOBAL_NORM : ADAMW_CLIP_NONE;
    chosen.clip_norm = clip_norm;
    optimizer made(std::move(chosen));
    std::size_t index = 0;
    for (std::size_t group = 0; group < param_groups_.size(); group++) {
      groups_.emplace_back(options_of(group));
      const adamw::group number = made.add_group(values(made.group_config(), groups_[group]));
      for (const torch::Tensor &param : param_groups_[group].params()) {
        const std::string name = std::to_string(index++);
        if (param.grad().defined() || state_.count(param.unsafeGetTensorImpl()))
          members_.push_back(joined(made, param, group, number, name));
      }
    }
    handle_.emplace(std::move(made));
  }

  static adamw_group_config values(adamw_group_config config, const told &now) {
    config.lr_scale = now.lr; // of the handle's, which is 1
    config.beta1 = now.beta1;
    config.beta2 = now.beta2;
    config.eps = now.eps;
    config.weight_decay = now.weight_decay;
    config.amsgrad = now.amsgrad;
    return config;
  }

  member joined(optimizer &handle, const torch::Tensor &param, std::size_t group,
                adamw::group number, const std::string &name) {
    TORCH_CHECK(stepped(param), "parameter ", name, " has ", param.dtype(),
                ": adamw::libtorch::AdamW steps float, double, half and bfloat16");
    TORCH_CHECK(param.device().is_cpu() && param.layout() == torch::kStrided, "parameter ", name,
                " is on ", param.device(), " with layout ", param.layout(),
                ": adamw::libtorch::AdamW steps dense parameters in the host's memory");
    auto &kept = state_[param.unsafeGetTensorImpl()];
    if (!kept)
      kept = std::make_unique<param_state>();
    param_state &state = static_cast<param_state &>(*kept);
    const torch::Tensor memory = param.detach();
    const torch::Tensor copy =
        memory.is_non_overlapping_and_dense() ? torch::Tensor() : memory.contiguous();
    const torch::Tensor &local = copy.defined() ? copy : memory;
    state.exp_avg(fit(state.exp_avg(), local));
    state.exp_avg_sq(fit(state.exp_avg_sq(), local));
    if (groups_[group].amsgrad)
      state.max_exp_avg_sq(fit(state.max_exp_avg_sq(), local));
    const tensor exp_avg = described(state.exp_avg()), exp_avg_sq = described(state.exp_avg_sq());
    std::optional<tensor> max_exp_avg_sq;
    if (groups_[group].amsgrad)
      max_exp_avg_sq = described(state.max_exp_avg_sq());
    param_config config{name, described(local)};
    config.exp_avg = &exp_avg;
    config.exp_avg_sq = &exp_avg_sq;
    config.max_exp_avg_sq = max_exp_avg_sq ? &*max_exp_avg_sq : nullptr;
    config.step = static_cast<std::uint64_t>(state.step());
    config.group = number;
    handle.add(config);
    return {param, memory, copy, group, &state, state.step(), addresses(param, state)};
  }

  // Returns state in the type and order in which the library steps a parameter; zeros for none.
  static torch::Tensor fit(const torch::Tensor &kept, const torch::Tensor &local) {
    const auto type = local.scalar_type() == torch::kFloat64 ? torch::kFloat64 : torch::kFloat32;
    torch::Tensor zeros = torch::zeros_like(local, local.options().dtype(type));
    if (!kept.defined())
      return zeros;
    return alike(kept, zeros) ? kept : zeros.copy_(kept);
  }

  void tell_groups() {
    for (std::size_t group = 0; group < groups_.size(); group++) {
      const told now(options_of(group));
      if (now == groups_[group])
        continue;
      const adamw::group number = adamw::group(group + 1);
      handle_->set_values(number, values(handle_->values(number), now));
      groups_[group] = now;
    }
  }

  copies tell_gradients() {
    copies kept;
    gradients_.clear();
    for (member &one : members_) {
      const torch::Tensor &grad = one.param.grad();
      const torch::Tensor &local = one.copy.defined() ? one.copy : one.memory;
      const void *address = nullptr;
      if (grad.defined()) {
        TORCH_CHECK(grad.layout() == torch::kStrided, "AdamW does not support sparse gradients");
        if (alike(grad, local) && !grad.is_neg() && !grad._is_zerotensor()) {
          address = grad.data_ptr();
        } else {
          kept.push_back(torch::empty_like(local).copy_(grad));
          address = kept.back().data_ptr();
        }
        if (one.copy.defined())
          one.copy.copy_(one.param);
      }
      gradients_.push_back(address);
    }
    handle_->set_grad_data(gradients_);
    return kept;
  }

  void finish(const copies &kept) {
    const adamw_step_info info = handle_->step_info();
    grad_norm_ = info.measured ? info.grad_norm : std::nan("");
    for (member &one : members_) {
      if (!one.param.grad().defined())
        continue;
      one.state->step(++one.steps);
      if (one.copy.defined())
        one.param.copy_(one.copy);
      else
        one.param.unsafeGetTensorImpl()->bump_version();
      if (clear_grads && !kept.empty())
        one.param.mutable_grad().zero_();
    }
  }

  std::optional<optimizer> handle_;
  std::vector<told> groups_;
  std::vector<member> members_;
  std::vector<const void *> gradients_;
  double told_clip_norm_ = 0, grad_norm_ = std::nan("");
  bool told_clear_grads_ = false;
  int threads_ = 0;
};

} // namespace adamw::libtorch

#endif
