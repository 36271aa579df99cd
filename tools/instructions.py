"""Prints what a step executes for each element, counted from the machine code of its kernels for sm_90. No GPU is needed, and nothing
is measured. `make instructions` installs the packages.

What is counted is the way once round the loop in which a step spends its time: whole vectors, no amsgrad, gradients of the
parameter's type that are neither prepared nor cleared, roots and quotients of ordinary numbers. It is the shortest way round the
shortest loop that reads and writes in vectors exactly what such a step must and calls nothing: calls are for roots and quotients
of which a number is near the ends of its range.
"""

import re
import sys
from collections import Counter, deque

import ptx

# An H200: multiprocessors, cycles a second, and bytes a second: nine tenths of the data sheet's 4.8e12.
PROCESSORS, CLOCK, BYTES = 132, 1.98e9, 4.3e12
# Instructions of a warp that a multiprocessor starts in a cycle: in all, and of integers, comparisons and choices.
ISSUED, CHOICES = 4, 2
# What other units execute.
OTHERS = re.compile(r"FADD|FMUL|FFMA|D(ADD|MUL|FMA)|IMAD|MUFU|LD|ST|SHFL|BRA|BS|WARPSYNC|NOP|U[A-Z]")
# The most instructions that kernels which memory should bound may execute for an element.
MOST = {
    "step_f32": 40,
    "step_bf16_bf16": 95,
    "step_bf16_stochastic_bf16": 110,
    "step_f32_8bit": 100,
    "step_bf16_8bit, split": 115,
    "step_f32_4bit": 130,
}
REGISTERS, THREADS, MOST_BLOCKS = 65536, 256, 8


class Code:
    """The instructions of a kernel, and which can come after each."""

    def __init__(self, text):
        self.names, self.predicates, self.after = [], [], []
        labels, operands = {}, []
        for line in text.splitlines():
            if label := re.match(r"(\S+):$", line):
                labels[label[1]] = len(self.names)
            elif found := re.match(r"\s*/\*[0-9a-f]{4,}\*/\s+(@!?U?P\d\s+)?(\S+?)(?:\s+(.*?))?\s*;", line):
                self.names.append(found[2])
                self.predicates.append(found[1])
                operands.append(found[3] or "")
        for i, (name, operand, predicate) in enumerate(zip(self.names, operands, self.predicates)):
            target = name.startswith("BRA") and re.match(r"(.*)`\((.*)\)$", operand)
            after = [labels[target[2]]] if target else []
            goes_on = predicate or (target and target[1]) or not (target or name == "EXIT")
            if goes_on and not name.startswith(("CALL", "RET", "BRX")) and i + 1 < len(self.names):
                after.append(i + 1)
            self.after.append(after)

    def access(self, i):
        """The kind of access to elements that an instruction is, such as ("LDG", 16). One with a predicate is left out in a plain step."""
        found = re.match(r"(LDG|STG)\.E\.EF(?:\.(128|64|U8|U16))?$", self.names[i])
        return found and not self.predicates[i] and (found[1], {"128": 16, "64": 8, "U8": 1, "U16": 2, None: 4}[found[2]])

    def round_trip(self, head, end, needed):
        """The instructions of the shortest way from one to another that leads back, within their span, that has these accesses; of 4 bytes it may have more."""
        start = (head, frozenset())
        queue, before = deque([start]), {start: None}
        while queue:
            state = queue.popleft()
            at, counts = state
            access = self.access(at)
            if access:
                seen = dict(counts).get(access, 0) + 1
                if seen > needed[access] and access[1] != 4:
                    continue
                counts = frozenset((dict(counts) | {access: min(seen, needed[access])}).items())
            for after in self.after[at]:
                if after == head and Counter(dict(counts)) == needed:
                    way = [at]
                    while before[state] is not None:
                        state = before[state]
                        way.append(state[0])
                    return way[::-1]
                if head < after <= end and (after, counts) not in before:
                    before[after, counts] = state
                    queue.append((after, counts))
        return None

    def loop(self, needed):
        """The names of the instructions of the shortest way round the first loop that has these accesses."""
        ends = {after: i for i, ways in enumerate(self.after) for after in ways if after <= i}
        for head, end in sorted(ends.items(), key=lambda span: span[1] - span[0]):
            if way := self.round_trip(head, end, needed):
                return [self.names[i] for i in way]
        raise LookupError(f"no loop has {dict(needed)}")


def tensors(kernel, way):
    """The bytes of an element in each tensor that is read, in each that is written, and of the codes of both moments."""
    words = kernel.split("_")
    size = {"f64": 8, "f32": 4}.get(words[1], 2)
    codes = {"8bit": 2, "4bit": 1}.get(words[-1], 0)
    rest = {"master": [4], "split": [2], "kahan": [2]}.get(way, [])
    moments = [] if codes else [2, 2] if words[-1] == "bf16" and len(words) > 2 else [max(size, 4)] * 2
    return ([] if way == "master" else [size]) + rest + [size] + moments, [size] + rest + moments, codes


def needed(loads, stores, codes, elements):
    """The accesses of a thread that takes so many elements."""
    found = Counter()
    for name, sizes in (("LDG", loads), ("STG", stores)):
        for width, n in ptx.accesses(sizes).items():
            found[name, width] += n * elements // 4
        if codes:
            # Words of four codes, and a scale of each moment; of 4 bits, only some threads store.
            found[name, 4] += {"LDG": 2 * elements // 4 + 2, "STG": 2 * elements // 4 * (codes == 2)}[name]
    return found


def row(kernel, way, text, registers):
    """A row of the table: a kernel that steps parameters which are kept this way."""
    code = Code(text)
    loads, stores, codes = tensors(kernel, way)
    elements = ptx.elements(kernel)
    names = code.loop(needed(loads, stores, codes, elements))
    n, choices = len(names) / elements, sum(not OTHERS.match(name) for name in names) / elements
    blocks = min(REGISTERS // (THREADS * (-(-registers // 8) * 8)), MOST_BLOCKS)
    scales = {2: 4 * 4 / 256, 1: 4 * 4 / 128}.get(codes, 0)
    memory = (sum(loads) + sum(stores) + 2 * codes + scales) * 1e9 / BYTES
    cycles = lambda n, at_once: n * 1e9 / 32 / at_once / PROCESSORS / CLOCK
    times = " | ".join(f"{1e3 * time:.2f}" for time in (memory, cycles(n, ISSUED), cycles(choices, CHOICES)))
    name = kernel if way in kernel or way == "itself" else f"{kernel}, {way}"
    if n > MOST.get(name, n):
        sys.exit(f"{name}: {n} instructions an element, at most {MOST[name]}")
    return f"| {name} | {registers} | {blocks} | {n:.0f} | {choices:.0f} | {times} |"


def main():
    report, cubin = ptx.assembled("sm_90", ptx.PTX)
    kernels = ptx.disassembled(cubin)
    registers = dict(re.findall(r"properties for (\w+)\n.*?\n.*?Used (\d+) registers", report))
    print("| kernel | registers | blocks | instructions | choices | memory, ms | issue, ms | choices, ms |\n|---|---|---|---|---|---|---|---|")
    for kernel in sorted(name for name in kernels if name.startswith("step_")):
        seen = []
        for way in ptx.ways(kernel):
            # Where two ways move the same bytes, the first stands for both.
            if tensors(kernel, way) in seen:
                continue
            seen.append(tensors(kernel, way))
            print(row(kernel, way, kernels[kernel], int(registers[kernel])))


if __name__ == "__main__":
    main()
