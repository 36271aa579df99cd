"""The state of another framework is taken over as it was meant, or refused with what does not fit,
and then nothing has changed.

environment: LIBADAMW
"""

import sys
import types
import unittest

from case import bits, np

import adamw
from adamw import convert

try:
    import ml_dtypes
except ImportError:
    print("ml_dtypes is missing")
    sys.exit(77)

BF16 = ml_dtypes.bfloat16
N = 3
FIRST = np.array([0.5, -1.0, 2.0], np.float32)
SECOND = np.array([0.25, 1.0, 4.0], np.float32)
FULL = {"step": 3, "exp_avg": FIRST, "exp_avg_sq": SECOND}
OTHER = {"step": 3, "exp_avg": FIRST + 1, "exp_avg_sq": SECOND + 1}
GROUP = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01}


def numbered(*states, keys=None, **group):
    """Returns a state_dict of PyTorch's, whose parameters have no state where that is None."""
    keys = range(len(states)) if keys is None else keys
    own = {key: state for key, state in zip(keys, states) if state is not None}
    return {"state": own, "param_groups": [{**GROUP, "params": list(range(len(states))), **group}]}


def flat(before="", **states):
    """Returns state by the names of distributed checkpoints."""
    parts = [(name, part, value) for name, own in states.items() for part, value in own.items()]
    return {f"{before}state.{name}.{part}": value for name, part, value in parts}


def of_paddle(name="a", number=0, own="", powers=(0.9**4, 0.999**4), **changed):
    """Returns a state_dict of Paddle's after three steps."""
    parts = {"moment1": FIRST, "moment2": SECOND}
    parts |= {f"beta{i}_pow_acc": np.array([p], np.float32) for i, p in enumerate(powers, 1)}
    parts |= changed
    here = {f"{name}_{own}{part}_{number}": v for part, v in parts.items() if v is not None}
    return here


def of_deepspeed(**parts):
    """Returns what the only rank of DeepSpeed's has saved of one parameter."""
    place = types.SimpleNamespace(start=0, numel=N)
    return {
        "param_slice_mappings": [{"a": place}],
        "partition_count": [1],
        "single_partition_of_fp32_groups": [FIRST],
        "base_optimizer_state": {"state": {0: {**FULL, **parts}}, "param_groups": [GROUP]},
    }


def torch(state, names=("a",), **options):
    return lambda optimizer: convert.from_torch(optimizer, names, state, **options)


def distributed(state, **options):
    return lambda optimizer: convert.from_distributed(optimizer, state, **options)


def paddle(state, *betas, **options):
    return lambda optimizer: convert.from_paddle(optimizer, state, *betas, **options)


def bitsandbytes(state):
    return lambda optimizer: convert.from_bitsandbytes(optimizer, ["a"], state)


def deepspeed(rank, **options):
    return lambda optimizer: convert.from_deepspeed(optimizer, [rank], **options)


def made(names="a", dtype=np.float32, **settings):
    """Returns an optimizer that has taken a step."""
    params = {name: np.ones(N, dtype) for name in names}
    optimizer = adamw.AdamW(params, **settings)
    optimizer.step(grads={name: np.full(N, 0.5, np.float32) for name in names})
    return optimizer


class DTensor(np.ndarray):
    """What has only a part of its elements."""

    def full_tensor(self):
        raise AssertionError("it would wait for other ranks")


class Strange:
    """What numpy cannot see."""

    def __array__(self, *_):
        raise RuntimeError(".numpy() is not supported for tensor subclasses")


ONE = {"step": 3}
REFUSED = [
    # A state of another optimizer.
    (
        "Adamax",
        torch(numbered({**ONE, "exp_avg": FIRST, "exp_inf": SECOND})),
        "'a' has no 'exp_avg_sq', but 'step', 'exp_avg', 'exp_inf': it seems to be that of Adamax",
    ),
    ("Lion", torch(numbered({**ONE, "exp_avg": FIRST})), "it seems to be that of Lion"),
    ("RMSprop", torch(numbered({**ONE, "square_avg": SECOND})), "that of RMSprop"),
    ("Adagrad", torch(numbered({**ONE, "sum": SECOND})), "that of Adagrad"),
    ("Adadelta", torch(numbered({**ONE, "square_avg": FIRST, "acc_delta": FIRST})), "of Adadelta"),
    ("Adafactor", torch(numbered({**ONE, "row_var": FIRST, "col_var": FIRST})), "of Adafactor"),
    ("ASGD", torch(numbered({**ONE, "eta": 1, "mu": 1, "ax": FIRST})), "that of ASGD"),
    ("Rprop", torch(numbered({**ONE, "prev": FIRST, "step_size": FIRST})), "that of Rprop"),
    ("SGD", torch(numbered({"momentum_buffer": FIRST})), "no 'step', .* seems to be that of SGD"),
    ("NAdam", torch(numbered({**FULL, "mu_product": 1.0})), "'mu_product' of 'a': .* of NAdam"),
    ("RAdam", torch(numbered(FULL, decoupled_weight_decay=False)), "no amsgrad"),
    (
        "Adam",
        torch(numbered(FULL, decoupled_weight_decay=False, amsgrad=False)),
        "decoupled_weight_decay of 'a' is True .in the file: False.",
    ),
    (
        "bitsandbytes",
        torch(numbered({**ONE, "__bnb_optimizer_quant_state__": {}})),
        "one of bitsandbytes, which from_bitsandbytes takes",
    ),
    ("Lion of bitsandbytes", bitsandbytes(numbered({**ONE, "state1": FIRST})), "no 'state2'"),
    ("torch as bitsandbytes", bitsandbytes(numbered(FULL)), "no 'state1', 'state2', .* but 'step'"),
    # Parts that are missing, or belong to nobody.
    ("no second moment", torch(numbered({"step": 3, "exp_avg": FIRST})), "no 'exp_avg_sq'"),
    ("no step", torch(numbered({"exp_avg": FIRST, "exp_avg_sq": SECOND})), "no 'step'"),
    ("text keys", torch(numbered(FULL, keys=["0"])), "nothing is known of .state..0..."),
    ("no state at all", torch(numbered(None)), "no param has any state: fresh starts"),
    (
        "no state_dict",
        torch({"model": {}, "opt": numbered(FULL)}),
        "but this is a dict of 'model', 'opt': give the entry 'opt'",
    ),
    ("names twice", torch(numbered(FULL, OTHER), ("a", "a")), "names has 'a' twice"),
    ("an empty dict", distributed({}), "in an empty dict"),
    (
        "no distributed step",
        distributed({"state.a.exp_avg": FIRST, "state.a.exp_avg_sq": SECOND}),
        "'a' has no 'step'",
    ),
    ("numbers", distributed({"model.weight": FIRST}), "nothing is called state.<param>.exp_avg in"),
    # Paddle's names and powers.
    ("a named optimizer", paddle(of_paddle(own="opt_")), "no state of 'a'.*has no 'a_opt'"),
    ("nobody's name", paddle(of_paddle("b")), "no state of 'a'.*the optimizer has no 'b'"),
    ("an entry", paddle({"opt": of_paddle()}), "in a dict of 'opt': give the entry 'opt'"),
    ("two optimizers", paddle(of_paddle() | of_paddle(number=1)), "is the second"),
    (
        "a tensor as beta",
        paddle(of_paddle(powers=(0.9 * 0.5**3, 0.999**4)), (0.5, 0.999)),
        "beta1_pow_acc of 'a' is 0.11.*, which is no power of 0.5",
    ),
    ("NaN as powers", paddle(of_paddle(powers=(np.nan, np.nan))), "expected a number from 0 to 1"),
    ("other betas", paddle(of_paddle(powers=(0.81**4, 0.999**4))), "7 and of 3 steps"),
    ("no moment2", paddle(of_paddle(moment2=None)), "'a' has no 'exp_avg_sq'"),
    ("no power", paddle(of_paddle(beta2_pow_acc=None)), "'a' has no 'step'"),
    ("NAdam of Paddle", paddle({"a_momentum_decay_pow_0": FIRST}), "nothing is called"),
    # Settings.
    ("betas", torch(numbered(FULL, betas=(0.5, 0.9))), r"betas of 'a' is \(0.9, 0.999\) \(in the "),
    (
        "eps",
        torch(numbered(FULL, eps=1e-6)),
        r"eps of 'a' is 1e-08 \(in the file: 1e-06\): ignore=\['eps'\] keeps",
    ),
    ("weight decay", torch(numbered(FULL, weight_decay=0.1)), "weight_decay of 'a' is 0.01"),
    ("maximize", torch(numbered(FULL, maximize=True)), "maximize of 'a' is False"),
    ("bias correction", torch(numbered(FULL, bias_correction=False)), "bias_corrected of 'a'"),
    ("names of its own", torch(numbered(FULL, param_names=["b"])), "called 'b' there and 'a'"),
    ("amsgrad", torch(numbered({**FULL, "max_exp_avg_sq": SECOND})), "with amsgrad=True"),
    ("amsgrad under ZeRO", deepspeed(of_deepspeed(max_exp_avg_sq=SECOND)), "with amsgrad=True"),
    # Values.
    ("a size", torch(numbered({**FULL, "exp_avg": np.ones(4)})), "exp_avg of 'a' has 4 elements"),
    ("a negative square", torch(numbered({**FULL, "exp_avg_sq": -SECOND})), "is negative in 2"),
    ("a step of NaN", torch(numbered({**FULL, "step": np.nan})), "step of 'a' is nan"),
    ("half a step", torch(numbered({**FULL, "step": 2.5})), "step of 'a' is 2.5"),
    ("a step of many", torch(numbered({**FULL, "step": FIRST})), "step of 'a' has 3 elements"),
    ("too large a step", torch(numbered({**FULL, "step": 1 << 40})), "a step of 1099511627776"),
    (
        "codes",
        torch(numbered({**FULL, "exp_avg": np.ones(N, np.uint8)})),
        "codes are taken by load",
    ),
    (
        "a part of a tensor",
        torch(numbered({**FULL, "exp_avg": FIRST.view(DTensor)})),
        r"exp_avg of 'a' is a DTensor, .* give its full_tensor\(\)",
    ),
    (
        "nothing for numpy",
        torch(numbered({**FULL, "exp_avg": Strange()})),
        "exp_avg of 'a' is no array for numpy: .numpy.. is not supported",
    ),
    ("a master", deepspeed(of_deepspeed(), masters=True), "make the optimizer with precision="),
    ("no rank", deepspeed("x"), "the state of rank 0 is a str"),
]


class Takeover(unittest.TestCase):
    def assert_refused(self, optimizer, take, text):
        before = optimizer.to_bytes()
        with self.assertRaisesRegex(ValueError, text):
            take(optimizer)
        self.assertEqual(optimizer.to_bytes(), before)

    def assert_has(self, optimizer, name="a", **parts):
        state, whole = optimizer.state(name), {**FULL, **parts}
        self.assertEqual(optimizer.param(name).step, whole["step"])
        for part, values in whole.items():
            if part != "step":
                self.assertEqual(bits(state[part]), bits(np.asarray(values)), part)

    def test_names_what_does_not_fit_and_changes_nothing(self):
        for what, take, text in REFUSED:
            with self.subTest(what):
                self.assert_refused(made(), take, text)

    def test_takes_all_parameters_or_none(self):
        broken = {**OTHER, "exp_avg_sq": np.ones(7, np.float32)}
        for what, take, text in [
            ("the second is broken", torch(numbered(FULL, broken), "ab"), "of 'b' has 7 elements"),
            ("half", distributed(flat(a=FULL)), "there is no state of 'b': fresh"),
            ("one shard of two", distributed(flat(b=OTHER)), "there is no state of 'a'"),
            (
                "one too many",
                torch(numbered(FULL, OTHER, OTHER), "abc"),
                "no 'c', which scope 'sub",
            ),
            ("swapped", torch(numbered(FULL, OTHER, param_names=["b", "a"]), "ab"), "called 'b'"),
            (
                "fresh and stepped",
                torch(numbered(FULL, OTHER), "ab", fresh=["b"]),
                "there is state",
            ),
            ("fresh and unknown", torch(numbered(FULL, OTHER), "ab", fresh=["x"]), "fresh has 'x'"),
            ("both ends", distributed(flat(a=FULL, x=FULL)), "no state of 'b'.*has no 'x'"),
        ]:
            with self.subTest(what):
                self.assert_refused(made("ab"), take, text)

    def test_takes_what_is_there_where_that_is_said(self):
        optimizer = made("ab")
        distributed(flat(b=OTHER, x=FULL), fresh=["a"], scope="subset")(optimizer)
        self.assert_has(optimizer, "b", **OTHER)
        zeros = np.zeros(N, np.float32)
        self.assert_has(optimizer, "a", step=0, exp_avg=zeros, exp_avg_sq=zeros)
        optimizer = made("ab")
        before = bits(optimizer.state("b")["exp_avg"])
        distributed(flat(a=FULL, x=FULL), scope="shared")(optimizer)
        self.assert_has(optimizer)
        self.assertEqual(optimizer.param("b").step, 1)
        self.assertEqual(bits(optimizer.state("b")["exp_avg"]), before)

    def test_starts_parameters_without_state_that_the_file_lists(self):
        zeros = np.zeros(N, np.float32)
        groups = [{**GROUP, "params": ["a", "b"]}]
        nested = {"state": {"a": FULL}, "param_groups": groups}
        listed = {**flat(a=FULL), "param_groups.a.lr": 1e-3, "param_groups.b.lr": 1e-3}
        for take in torch(numbered(FULL, None), "ab"), distributed(nested), distributed(listed):
            optimizer = made("ab")
            take(optimizer)
            self.assert_has(optimizer)
            self.assert_has(optimizer, "b", step=0, exp_avg=zeros, exp_avg_sq=zeros)

    def test_takes_the_forms_in_which_frameworks_give_it(self):
        nested = {"state": {"a": FULL}, "param_groups": [{**GROUP, "params": ["a"]}]}
        for what, take in [
            ("numbers", torch(numbered(FULL))),
            ("its own names", torch(numbered(FULL, param_names=["a"]), None)),
            ("a step in a tensor", torch(numbered({**FULL, "step": np.array([3.0])}))),
            ("nested", distributed(nested)),
            ("nested behind a prefix", distributed({"optim": nested, "model": {"a": FIRST}})),
            ("a prefix", distributed({**flat("optim.", a=FULL), "model.a": FIRST})),
            (
                "bf16 as uint16",
                distributed(flat(a={**FULL, "exp_avg": FIRST.astype(BF16).view("u2")})),
            ),
            ("bf16", distributed(flat(a={**FULL, "exp_avg": FIRST.astype(BF16)}))),
            ("f16", torch(numbered({**FULL, "exp_avg": FIRST.astype(np.float16)}))),
            ("f64", torch(numbered({**FULL, "exp_avg_sq": SECOND.astype(np.float64)}))),
            ("Paddle", paddle(of_paddle())),
            ("the second of Paddle's optimizers", paddle(of_paddle(number=1))),
            ("a named one", paddle(of_paddle(own="opt_"), own_name="opt")),
            ("Paddle's small moments", paddle(of_paddle(moment1=FIRST.astype(BF16).view("u2")))),
            ("Paddle's own betas", paddle(of_paddle(powers=(0.8**4, 0.99**4)), (0.8, 0.99))),
            ("DeepSpeed", deepspeed(of_deepspeed())),
            ("settings that differ", torch(numbered(FULL, eps=1.0), ignore=["eps"])),
            (
                "amsgrad that is left",
                torch(numbered({**FULL, "max_exp_avg_sq": SECOND}), ignore=["max_exp_avg_sq"]),
            ),
        ]:
            with self.subTest(what):
                optimizer = made()
                take(optimizer)
                self.assert_has(optimizer)

    def test_takes_parameters_that_the_file_calls_otherwise(self):
        swapped = {"x": "b", "b": "a"}
        for take in (
            distributed(flat(x=OTHER, b=FULL), rename=swapped),
            torch(numbered(OTHER, FULL), "xb", rename=swapped),
            lambda own: convert.from_optax(
                own,
                {
                    "count": 3,
                    "mu": {"x": FIRST + 1, "b": FIRST},
                    "nu": {"x": SECOND + 1, "b": SECOND},
                },
                rename=swapped,
            ),
        ):
            optimizer = made("ab")
            take(optimizer)
            self.assert_has(optimizer)
            self.assert_has(optimizer, "b", **OTHER)
        for names, text in ({"y": "a"}, "rename has 'y'"), ({"x": "b"}, "two of them one name"):
            take = distributed(flat(x=OTHER, b=FULL), rename=names)
            self.assert_refused(made("ab"), take, text)

    def test_takes_names_with_the_word_state_in_them(self):
        state = {f"optim.{key}": value for key, value in flat(**{"x.state.y": FULL}).items()}
        optimizer = made(["x.state.y"])
        distributed(state)(optimizer)
        self.assert_has(optimizer, "x.state.y")

    def test_takes_the_largest_squares(self):
        largest = {"max_exp_avg_sq": SECOND + 1}
        for take in torch(numbered({**FULL, **largest})), deepspeed(of_deepspeed(**largest)):
            optimizer = made(amsgrad=True)
            take(optimizer)
            self.assert_has(optimizer, **largest)
        self.assert_refused(made(amsgrad=True), torch(numbered(FULL)), "extend starts it")
        optimizer = made(amsgrad=True)
        torch(numbered(FULL), extend=True)(optimizer)
        self.assert_has(optimizer, max_exp_avg_sq=SECOND)

    def test_takes_moments_into_the_formats_that_the_library_converts(self):
        for settings, dtype in [({"moments": "bf16"}, np.float32), ({}, np.float64)]:
            optimizer = made(dtype=dtype, **settings)
            torch(numbered(FULL))(optimizer)
            own = optimizer.state("a")["exp_avg"].dtype
            self.assert_has(optimizer, exp_avg=FIRST.astype(own), exp_avg_sq=SECOND.astype(own))

    def test_starts_what_keeps_16_bit_parameters_precise(self):
        for precision, part in ("master", "master"), ("split", "remainder"), ("kahan", "remainder"):
            with self.subTest(precision):
                param = np.array([0.5, 1.5, -3.0], BF16)
                optimizer = adamw.AdamW({"a": param}, precision=precision)
                optimizer.step(grads={"a": FIRST})
                torch(numbered(FULL))(optimizer)
                self.assert_has(optimizer)
                expected = param if part == "master" else np.zeros(N)
                self.assertEqual(optimizer.state("a")[part].tolist(), expected.tolist())

    def test_takes_masters(self):
        optimizer = made(dtype=BF16, precision="master")
        params = deepspeed(of_deepspeed(), masters=True)(optimizer)
        self.assertEqual(bits(params["a"]), bits(FIRST))
        self.assert_has(optimizer, master=FIRST)

    def test_makes_codes_as_the_library_does(self):
        n = 5000
        # Magnitudes that both codes have, so that nothing is rounded.
        exp_avg = np.resize(np.array([1, -0.5, 0.25, -1], np.float32), n)
        exp_avg_sq = np.resize(np.array([1, 0.25, 0.0625], np.float32), n)
        state = numbered({"step": 3, "exp_avg": exp_avg, "exp_avg_sq": exp_avg_sq})
        for moments, settings in ("8bit", {}), ("4bit", {}), ("8bit", {"amsgrad": True}):
            with self.subTest(moments, **settings):
                ends = []
                for own in moments, None:
                    param = np.ones(n, np.float32)
                    optimizer = adamw.AdamW({"a": param}, moments=own, **settings)
                    torch(state, extend=True)(optimizer)
                    self.assertEqual(
                        optimizer.state("a")["exp_avg"].dtype == np.uint8, own == moments
                    )
                    optimizer.step(grads={"a": np.zeros(n, np.float32)})
                    ends.append(bits(param))
                self.assertEqual(*ends)
        optimizer = adamw.AdamW({"a": np.ones(n, np.float32)}, moments="8bit")
        before = optimizer.to_bytes()
        with self.assertRaisesRegex(ValueError, "has 3 elements, expected 5000"):
            torch(numbered(FULL))(optimizer)
        self.assertEqual(optimizer.to_bytes(), before)

    def test_splits_masters(self):
        masters = np.array([1.00390625, -3.1415927, 1e-20, 65504.5], np.float32)
        moments = np.array([0.5, 0.25, -0.5, 1.0], np.float32)
        state = {"step": 3, "exp_avg": moments, "exp_avg_sq": moments**2, "master": masters}
        seen = []
        for precision in "split", "master":
            param = np.zeros(4, BF16)
            optimizer = adamw.AdamW({"a": param, "b": np.ones(4, np.float32)}, precision=precision)
            distributed(flat(a=state), fresh=["b"])(optimizer)
            for _ in range(2):
                parts = optimizer.state("a")
                if precision == "split":
                    upper = param.view(np.uint16).astype(np.uint32) << 16
                    whole = (upper + parts["remainder"].astype(np.uint32)).view(np.float32)
                else:
                    whole = parts["master"].copy()
                seen.append(bits(whole))
                optimizer.step(grads={"a": moments})
        self.assertEqual(seen[0], bits(masters))
        self.assertEqual(seen[:2], seen[2:])

    def test_takes_the_whole_of_what_a_shard_is_a_part_of(self):
        optimizer = adamw.AdamW()
        optimizer.add_param("a", np.ones(2, np.float32), first_element=1, whole_elements=N)
        torch(numbered(FULL))(optimizer)
        self.assert_has(optimizer, exp_avg=FIRST[1:], exp_avg_sq=SECOND[1:])
        longer = np.arange(N + 1, dtype=np.float32)
        state = numbered({"step": 1, "exp_avg": longer, "exp_avg_sq": longer})
        self.assert_refused(optimizer, torch(state), "has 4 elements, expected 3")

    def test_takes_shapes_that_are_the_parameters(self):
        matrix = np.arange(6, dtype=np.float32).reshape(2, 3)
        state = {"step": 1, "exp_avg": matrix.T, "exp_avg_sq": matrix.T}
        optimizer = adamw.AdamW({"a": np.ones((2, 3), np.float32)})
        self.assert_refused(optimizer, torch(numbered(state)), r"has the shape \(3, 2\), the param")
        torch(numbered(state), ignore=["shape"])(optimizer)
        self.assertEqual(optimizer.state("a")["exp_avg"].tolist(), matrix.T.reshape(2, 3).tolist())

    def test_goes_on_with_the_powers_of_the_steps(self):
        optimizer = made(betas=(0.8, 0.99))
        torch(numbered({**FULL, "step": 1000}, betas=(0.8, 0.99)))(optimizer)
        stepped = made(betas=(0.8, 0.99))
        stepped.set_state("state.a.step", 1000.0)
        for power in "beta1_power", "beta2_power":
            a, b = (one.get_state(f"state.a.{power}") for one in (optimizer, stepped))
            self.assertEqual(bits(a), bits(b))


if __name__ == "__main__":
    unittest.main()
