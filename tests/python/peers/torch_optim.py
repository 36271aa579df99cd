"""What PyTorch's test_optim.py asks of every optimizer, of torch.optim.AdamW and of our class.

Each row is a case of that file in our words: a function that does it with a class, and returns what
both classes have to agree on. It runs with each of PyTorch's inputs (`common_optimizers`), and
again with `foreach` and `fused`. test_errors is in torch_cases.py. These are not covered:

- test_rosenbrock_sparse: torch.optim.AdamW takes no sparse gradients; torch_keywords.py has ours.
- test_forloop_goes_right_direction_multigpu and the devices of test_mixed_device_dtype: two GPUs.
  The types of the latter are mixed here on the CPU.
- test_cpu_load_state_dict, test_state_dict_with_cuda_params, test_fused_cpu_matches_cuda: a GPU.
- test_foreach_large_tensor, test_fused_large_tensor: 64 GB of memory.
- test_peak_memory_foreach, test_defaults_changed_to_foreach: of PyTorch's ways to compute the step
  on a GPU, of which there is one here.
- test_second_order_optims_return_consistent_types: of L-BFGS.
- test_optim_infos_do_not_specify_global_cliquey_kwargs: of PyTorch's table of inputs.
- TestDifferentiableOptimizer: `differentiable` is refused.

usage: LIBADAMW=libadamw.so torch_optim.py
"""

import copy
import io
import unittest

import adamw.torch
import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.testing._internal.common_optimizers import optim_db
from torch_pairs import distance

INFO = next(info for info in optim_db if info.optim_cls is torch.optim.AdamW)
CASES = []
TOLERANCE = 1e-5


def case(name, **options):
    """Marks what the case of this name in test_optim.py does with a class and keywords."""

    def mark(function):
        CASES.append((name, function, options))
        return function

    return mark


def linear(gaps=False):
    """Returns a weight, a bias, and the loss of both."""
    torch.manual_seed(1)
    weight, bias = torch.randn(10, 5, 2)[..., 0], torch.randn(10, 2)[..., 0]
    if not gaps:
        weight, bias = weight.contiguous(), bias.contiguous()
    params, given = [torch.nn.Parameter(weight), torch.nn.Parameter(bias)], torch.randn(5)
    return params, lambda: (params[0].mv(given) + params[1]).pow(2).sum()


def closure_of(optimizer, loss_of):
    def closure():
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        return loss

    return closure


def run(optimizer, loss_of, steps=20, schedulers=()):
    """Returns the loss before and after some steps, and the parameters."""
    closure = closure_of(optimizer, loss_of)
    first = closure().item()
    for _ in range(steps):
        loss = closure()
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step(*([loss] if isinstance(scheduler, ReduceLROnPlateau) else []))
    last = closure().item()
    up = any(group["maximize"] for group in optimizer.param_groups)
    assert (last > first) is up, (first, last)
    return [first, last, [p.detach().clone() for g in optimizer.param_groups for p in g["params"]]]


@case("test_forloop_goes_right_direction", fused=False)
def goes_in_the_right_direction(make, keywords):
    ends = []
    for gaps in (False, True):
        for schedulers in [[], *INFO.scheduler_inputs]:
            params, loss_of = linear(gaps)
            optimizer = make(params, **copy.deepcopy(keywords))
            ends.append(run(optimizer, loss_of, 20, [s(optimizer) for s in schedulers]))
    return ends


@case("test_param_group_with_lrscheduler_goes_right_direction", inputs=False)
def schedules_a_group_of_its_own_rate(make, keywords):
    ends = []
    for schedulers in INFO.scheduler_inputs:
        (weight, bias), loss_of = linear()
        optimizer = make([{"params": [weight]}, {"params": [bias], "lr": 0.01}], **keywords)
        ends.append(run(optimizer, loss_of, 20, [s(optimizer) for s in schedulers]))
    return ends


@case("test_tensor_lr", foreach=False)
def takes_a_tensor_for_a_rate(make, keywords):
    ends = []
    for lr in (1e-3, torch.tensor(1e-3)):
        params, loss_of = linear()
        ends.append(run(make(params, **{**keywords, "lr": lr}), loss_of, 5))
    assert_same(*ends)
    return ends


@case("test_complex", fused=False)
def steps_complex_numbers_as_pairs(make, keywords):
    torch.manual_seed(2)
    numbers = [torch.randn(10, 5, dtype=torch.complex64), torch.randn(10, dtype=torch.complex64)]
    numbers.append(torch.randn(10, 5))
    pairs = [torch.view_as_real(n).clone() if n.is_complex() else n.clone() for n in numbers]
    first = make([n.requires_grad_() for n in numbers], **keywords)
    second = make([p.requires_grad_() for p in pairs], **keywords)
    for _ in range(3):
        for number, pair in zip(numbers, pairs, strict=True):
            pair.grad = torch.randn_like(pair)
            grad = pair.grad.clone()
            number.grad = torch.view_as_complex(grad) if number.is_complex() else grad
        first.step()
        second.step()
        for number, pair in zip(numbers, pairs, strict=True):
            number = torch.view_as_real(number) if number.is_complex() else number
            assert torch.equal(number, pair)
    return [p.detach() for p in pairs]


@case("test_complex_2d", fused=False)
def steps_a_complex_number_as_its_parts(make, keywords):
    torch.manual_seed(3)
    whole = torch.randn(2, dtype=torch.complex64)
    parts = [whole.real.clone().requires_grad_(), whole.imag.clone().requires_grad_()]
    whole.requires_grad_()
    first, second = make([whole], **keywords), make(parts, **keywords)
    loss_of = lambda z: ((1 - z[0]) ** 2 + 100 * (z[1] - z[0] ** 2) ** 2).abs()
    for _ in range(3):
        closure_of(first, lambda: loss_of(whole))()
        closure_of(second, lambda: loss_of(torch.complex(*parts)))()
        first.step()
        second.step()
        assert torch.allclose(torch.view_as_real(whole), torch.stack(parts, -1))
    return [whole.detach()]


def network(dtype=torch.float32):
    torch.manual_seed(1)
    layers = [torch.nn.Linear(2, 3), torch.nn.Sigmoid(), torch.nn.Linear(3, 1), torch.nn.Sigmoid()]
    return torch.nn.Sequential(*layers).to(dtype)


def froze(make, keywords, dtype):
    """A network with a layer that is frozen for two steps, and a scalar without later gradients."""
    model, scalar = network(dtype), torch.ones((), dtype=dtype, requires_grad=True)
    scalar.grad = torch.full_like(scalar, 0.5)
    given = torch.arange(0.1, 0.65, 0.1, dtype=dtype).view(3, 2)
    optimizer, states = make([*model.parameters(), scalar], **keywords), []
    for step in range(7):
        optimizer.zero_grad()
        model[2].requires_grad_(step not in (3, 4))
        if step != 2:
            model(given).sum().backward()
        optimizer.step()
        states += [dict(optimizer.state[p]) for p in model.parameters()]
    return [[p.detach() for p in model.parameters()], copy.deepcopy(states)]


@case("test_foreach_matches_forloop, test_fused_matches_forloop")
def skips_what_has_no_gradient(make, keywords):
    return [froze(make, keywords, dtype) for dtype in (torch.float32, torch.float64)]


@case("test_set_default_dtype_works_with_foreach", fused=False)
def counts_in_a_type_that_is_wide_enough(make, keywords):
    ends, before = [], torch.get_default_dtype()
    for default in (torch.float64, torch.float16):
        torch.set_default_dtype(default)
        try:
            keywords = {key: plain(value) for key, value in keywords.items()}
            ends.append(froze(make, keywords, torch.float64))
        finally:
            torch.set_default_dtype(before)
        for state in ends[-1][1]:
            if state:
                wide = torch.float64 if default == torch.float64 else torch.float32
                assert state["step"].dtype == wide
    return ends


def plain(value):
    """Returns a number for a tensor, whose default type might change."""
    return float(value) if isinstance(value, torch.Tensor) else value


@case("test_mixed_device_dtype")
def steps_types_together(make, keywords):
    torch.manual_seed(4)
    params = [torch.rand(2, 3, dtype=dtype) for dtype in (torch.float64, torch.float32)]
    for param in params:
        param.requires_grad_().grad = torch.rand_like(param)
    frozen = torch.randint(1024, (2, 3))
    optimizer = make([*params, frozen], **keywords)
    for _ in range(7):
        optimizer.step()
    return [p.detach() for p in params] + [frozen]


@case("test_fused_error_on_params_on_meta", inputs=False)
def refuses_parameters_without_memory(make, keywords):
    with torch.device("meta"):
        model = network()
    optimizer = make(model.parameters(), fused=True)
    for param in model.parameters():
        param.grad = torch.rand_like(param)
    try:
        optimizer.step()
        raise AssertionError("parameters without memory were stepped")
    except (RuntimeError, adamw.errors.UnsupportedError):
        pass
    optimizer.zero_grad(set_to_none=True)
    model.to_empty(device="cpu")
    for param in model.parameters():
        torch.nn.init.ones_(param)
        param.grad = torch.ones_like(param)
    optimizer.step()
    return [p.detach() for p in model.parameters()]


@case("test_fused_does_not_step_if_foundinf", foreach=False, only_fused=True)
def skips_gradients_that_are_not_finite(make, keywords):
    for scale in (None, torch.ones(1)):
        params = [torch.ones(1) for _ in range(5)]
        for param in params:
            param.grad = torch.ones(1)
        optimizer = make(params, **keywords)
        optimizer.grad_scale, optimizer.found_inf = scale, torch.ones(())
        optimizer.step()
        assert all(torch.equal(p, torch.ones(1)) for p in params)
        assert not any(optimizer.state[p].get("step", 0.0) for p in params)
    return []


@case("test_param_groups_weight_decay")
def decays_one_group(make, keywords):
    (weight, bias), loss_of = linear()
    groups = [{"params": [weight], **keywords}, {"params": [bias], **keywords, "weight_decay": 0.0}]
    return run(make(groups), loss_of)


@case("test_param_groups_lr")
def leaves_a_group_of_almost_no_rate(make, keywords):
    params, loss_of = linear()
    other = torch.nn.Parameter(torch.randn(2))
    before, own = other.detach().clone(), {"lr": 1e-3, **keywords}
    groups = [{"params": params, **own}, {"params": [other]}]
    optimizer = make(groups, lr=1e-28)
    other.grad = torch.rand(2)
    loss_and_other = lambda: loss_of() + other.sum() * 0
    end = run(optimizer, loss_and_other)
    assert torch.equal(other, before)
    return end


@case("test_step_is_noop_when_params_have_no_grad")
def steps_nothing_without_gradients(make, keywords):
    params = [torch.randn(2, 3), torch.randn(2, 3)]
    before = copy.deepcopy(params)
    optimizer = make(params, **keywords)
    loss = optimizer.step(lambda: torch.tensor([1]))
    assert all(torch.equal(a, b) for a, b in zip(params, before, strict=True))
    return [loss, len(optimizer.state)]


@case("test_step_is_noop_for_zero_grads")
def moves_nothing_for_zeros(make, keywords):
    param = torch.linspace(-1, 1, 5).view(5, 1).requires_grad_()
    before = param.detach().clone()
    optimizer = make([param], **{**keywords, "lr": 1e-5, "weight_decay": 0.0})
    param.grad = torch.zeros_like(param)
    optimizer.step()
    assert torch.equal(param, before)
    return [dict(optimizer.state[param])]


@case("test_optimizer_can_be_printed")
def is_printed(make, keywords):
    return [repr(make(linear()[0], **keywords))]


@case("test_state_dict_deterministic")
def goes_on_from_a_state_dict_with_the_same_bits(make, keywords):
    name = lambda params, names: [(f"n{i}", p) for i, p in enumerate(params)] if names else params
    for names in ((False, False), (False, True), (True, False), (True, True)):
        params, loss_of = linear()
        first = make(name(params, names[0]), **keywords)
        run(first, loss_of, 10)
        others, other_loss_of = linear()
        for param, other in zip(params, others, strict=True):
            other.data = param.data.clone()
        second = make(name(others, names[1]), **keywords)
        second.load_state_dict(copy.deepcopy(first.state_dict()))
        run(first, loss_of, 10)
        run(second, other_loss_of, 10)
        saved = [copy.deepcopy(o.state_dict()) for o in (first, second)]
        for one in saved:
            one["param_groups"][0].pop("param_names", None)
        assert_same(*saved, exactly=True)
    second.param_groups.extend(second.param_groups)
    groups = [o.state_dict()["param_groups"] for o in (first, second)]
    assert groups[0][-1] == groups[1][-1]
    return [saved[0]]


@case("test_can_load_older_state_dict")
def loads_a_state_dict_without_new_options(make, keywords):
    params, loss_of = linear()
    optimizer = make(params, **keywords)
    up = keywords.get("maximize", False)
    run(optimizer, loss_of, 3)
    saved = copy.deepcopy(optimizer.state_dict())
    for group in saved["param_groups"]:
        for flag in INFO.not_og_supported_flags:
            group.pop(flag, None)
    optimizer.load_state_dict(saved)
    for group in optimizer.param_groups:
        group["maximize"] = up
    return run(optimizer, loss_of, 3)


@case("test_can_load_from_to_named_state_dict")
def keeps_the_names_of_either(make, keywords):
    ends = []
    for names in ((False, False), (False, True), (True, False), (True, True)):
        models = network(), network()
        listed = [
            model.named_parameters() if named else model.parameters()
            for model, named in zip(models, names, strict=True)
        ]
        first, second = (make(params, **keywords) for params in listed)
        given = torch.ones(3, 2)
        for _ in range(3):
            closure_of(first, lambda: models[0](given).sum())()
            first.step()
        second.load_state_dict(copy.deepcopy(first.state_dict()))
        closure_of(second, lambda: models[1](given).sum())()
        second.step()
        kept = second.state_dict()["param_groups"][0].get("param_names")
        assert (kept is not None) is any(names)
        ends.append([kept, [p.detach() for p in models[1].parameters()]])
    return ends


@case("test_save_load_equality_with_weights_only")
def is_the_same_from_a_file(make, keywords):
    params, loss_of = linear()
    optimizer = make(params, **keywords)
    run(optimizer, loss_of, 3)
    saved = optimizer.state_dict()
    for weights_only in (False, True):
        file = io.BytesIO()
        torch.save(saved, file)
        file.seek(0)
        assert_same(torch.load(file, weights_only=weights_only), saved, exactly=True)
    return [saved]


@case("test_load_nontensor_step")
def loads_a_step_that_is_a_number(make, keywords):
    params, loss_of = linear()
    optimizer = make(params, **keywords)
    run(optimizer, loss_of, 3)
    saved = copy.deepcopy(optimizer.state_dict())
    for state in saved["state"].values():
        state["step"] = state["step"].item()
    optimizer.load_state_dict(saved)
    return run(optimizer, loss_of, 1) + [optimizer.state_dict()]


@case("test_state_dict_pre_hook, test_state_dict_post_hook, test_state_dict_pre_post_hook")
def runs_hooks_of_state_dicts(make, keywords):
    ends = []
    for with_pre, with_post in ((True, False), (False, True), (True, True)):
        optimizer = make([torch.ones(2, 3, requires_grad=True)], **keywords)

        def before(optimizer):
            optimizer.state["test"] = 1

        def after(optimizer, saved):
            saved["ran"] = saved["state"].pop("test", None) == 1
            return saved

        if with_pre:
            optimizer.register_state_dict_pre_hook(before)
        if with_post:
            optimizer.register_state_dict_post_hook(after)
        ends.append(optimizer.state_dict())
        assert ends[-1].get("ran") == (with_pre if with_post else None)
    return ends


@case("test_load_state_dict_pre_hook_and_prepend, test_load_state_dict_post_hook and _pre_post_")
def runs_hooks_of_loading(make, keywords):
    def set_rate(optimizer, saved):
        saved["param_groups"][0]["lr"] = 0.002

    def replace(optimizer, saved):
        saved = copy.deepcopy(saved)
        saved["param_groups"][0]["lr"] = 0.003
        return saved

    def after(optimizer):
        optimizer.state["rate"] = optimizer.param_groups[0]["lr"]

    ends = []
    for hooks in ([(set_rate, False)], [(set_rate, False), (replace, True)], [(replace, False)]):
        optimizer = make([torch.ones(2, 3, requires_grad=True)], **keywords)
        for hook, prepend in hooks:
            optimizer.register_load_state_dict_pre_hook(hook, prepend=prepend)
        optimizer.register_load_state_dict_post_hook(after)
        optimizer.load_state_dict(optimizer.state_dict())
        ends.append(optimizer.state["rate"])
    assert ends == [0.002, 0.002, 0.003]
    return ends


@case("test_step_pre_hook, test_step_post_hook, test_step_all_hooks")
def runs_hooks_of_steps(make, keywords):
    seen = []
    note = lambda what: lambda *_: seen.append(what)
    optimizer = make([torch.ones(2)], **keywords)
    hooks = [
        register_optimizer_step_pre_hook(note("all before")),
        register_optimizer_step_post_hook(note("all after")),
        optimizer.register_step_pre_hook(note("before")),
        optimizer.register_step_post_hook(note("after")),
    ]
    optimizer.step()
    optimizer.step()
    for hook in hooks:
        hook.remove()
    optimizer.step()
    assert seen == ["all before", "before", "after", "all after"] * 2
    return [seen]


@case("test_deepcopy_copies_all_public_attrs")
def is_copied_with_its_attributes(make, keywords):
    params, loss_of = linear()
    optimizer = make(params, **keywords)
    run(optimizer, loss_of, 3)
    public = lambda o: {key for key in vars(o) if not key.startswith("_")}
    assert public(optimizer) == public(copy.deepcopy(optimizer))
    return []


@case("test_non_empty_state")
def has_state(make, keywords):
    params, loss_of = linear()
    optimizer = make(params, **keywords)
    run(optimizer, loss_of, 1)
    assert all(optimizer.state.values())
    return [list(map(list, optimizer.state.values()))]


@case("test_adamw_serialization", inputs=False)
def is_adam_with_its_decay(make, keywords):
    params, _ = linear()
    ours, adam = make(params), torch.optim.Adam(params)
    adam.load_state_dict(ours.state_dict())
    assert adam.param_groups[0]["decoupled_weight_decay"]
    ours.load_state_dict(torch.optim.Adam(params).state_dict())
    assert ours.param_groups[0]["decoupled_weight_decay"]
    return [ours.state_dict()["param_groups"]]


def assert_same(a, b, *, exactly=False, what=""):
    """Raises AssertionError if two values with tensors and numbers in them differ."""
    assert type(a) is type(b) or isinstance(a, torch.Tensor), f"{what}: {a!r}, {b!r}"
    if isinstance(a, dict):
        assert list(a) == list(b), f"{what}: {list(a)}, {list(b)}"
        for key, value in a.items():
            assert_same(value, b[key], exactly=exactly, what=f"{what}[{key!r}]")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), f"{what}: {len(a)}, {len(b)}"
        for index, pair in enumerate(zip(a, b, strict=True)):
            assert_same(*pair, exactly=exactly, what=f"{what}[{index}]")
    elif isinstance(a, torch.Tensor):
        assert (a.dtype, a.shape) == (b.dtype, b.shape), f"{what}: {a.dtype}, {b.dtype}"
        apart = 0.0 if torch.equal(a, b) else distance(a, b)
        assert apart <= (0 if exactly else TOLERANCE), f"{what}: {apart} apart"
    elif isinstance(a, float) and not exactly:
        assert abs(a - b) <= TOLERANCE * max(abs(a), abs(b)), f"{what}: {a}, {b}"
    else:
        assert a == b, f"{what}: {a!r}, {b!r}"


def inputs(options):
    """Returns the descriptions and keywords that a case runs with."""
    if not options.get("inputs", True):
        return [("default", {})]
    flags = [{}] + [{key: True} for key in ("foreach", "fused") if options.get(key, True)]
    flags = flags[1:] if options.get("only_fused") else flags
    given = INFO.optim_inputs_func(device="cpu", dtype=torch.float32)
    return [
        (f"{one.desc} {flag}", {**copy.deepcopy(one.kwargs), **flag})
        for flag in flags
        for one in given
        if not (flag.get("fused") and one.kwargs.get("capturable"))
    ]


class Optim(unittest.TestCase):
    def test_every_case_holds_for_both_classes(self):
        self.assertEqual(len(CASES), 26)
        for name, function, options in CASES:
            for description, keywords in inputs(options):
                with self.subTest(name, input=description):
                    ends = [
                        function(make, copy.deepcopy(keywords))
                        for make in (adamw.torch.AdamW, torch.optim.AdamW)
                    ]
                    assert_same(*ends)


if __name__ == "__main__":
    unittest.main()
