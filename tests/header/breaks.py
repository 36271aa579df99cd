"""Whatever breaks programs that were compiled with adamw.h is found by promises.py or promises.c, and what does not is no break.

usage: breaks.py CC
"""

import pathlib
import subprocess
import sys
import tempfile

import promises

# What is broken, and how: words of the header and what stands in their place, where they come first.
BREAKS = {
    "an argument has another width": ("ready(adamw_optimizer *optimizer, uint32_t", "ready(adamw_optimizer *optimizer, uint64_t"),
    "an argument has a sign": ("ready(adamw_optimizer *optimizer, uint32_t", "ready(adamw_optimizer *optimizer, int32_t"),
    "an argument is not const": ("optimizer, const char *path);", "optimizer, char *path);"),
    "an argument goes": ("adamw_status_name(int32_t status)", "adamw_status_name(void)"),
    "arguments have changed places": ("dtype,\n" + " " * 31 + "uint64_t n_elements,", "dtype, uint64_t once_elements,",
                                      "uint64_t whole_elements,", "uint64_t n_elements,", "once_elements", "whole_elements"),
    "a result has another type": ("const char *adamw_version", "uint32_t adamw_version"),
    "a function has another name": ("adamw_sparse_flush(", "adamw_flush("),
    "a function goes": ("adamw_status adamw_sparse_flush(adamw_optimizer *optimizer);", ""),
    "a type has another width": ("typedef int32_t adamw_status;", "typedef int64_t adamw_status;"),
    "a type has a sign": ("typedef uint32_t adamw_clip;", "typedef int32_t adamw_clip;"),
    "a handle is another": ("typedef struct adamw_team adamw_team;", "typedef struct adamw_optimizer adamw_team;"),
    "a handle is anything": ("typedef struct adamw_team adamw_team;", "typedef void adamw_team;"),
    "a status has another number": ("ADAMW_STATUS_IO = 15", "ADAMW_STATUS_IO = 18"),
    "a constant has another number": ("ADAMW_CLIP_VALUE 3", "ADAMW_CLIP_VALUE 4"),
    "a constant goes": ("#define ADAMW_CLIP_VALUE 3", ""),
    "a field has another type of its size": ("  uint64_t seed;", "  double seed;"),
    "a field has another width": ("  uint32_t clear_grads;", "  uint64_t clear_grads;"),
    "a field is an array": ("  uint64_t offset;", "  uint64_t offset[2];"),
    "a field does not point to const": ("  const float *lr_ptr;", "  float *lr_ptr;"),
    "a field has another name": ("  uint64_t seed;", "  uint64_t the_seed;"),
    "fields have changed places": ("double beta1;", "double once;", "double beta2;", "double beta1;", "double once;", "double beta2;"),
    "a field comes in between": ("  uint64_t seed;", "  uint64_t seed;\n  uint64_t more;"),
    "a field goes": ("  uint64_t seed;", ""),
    "DLPack's tensor grows": ("} adamw_tensor;", "  uint64_t more;\n} adamw_tensor;"),
    "a struct of an array grows": ("} adamw_param_grad;", "  uint64_t more;\n} adamw_param_grad;"),
    "a struct is packed": ("} adamw_entry;", "} __attribute__((packed)) adamw_entry;"),
    "a struct is aligned to more": ("} adamw_config;", "} __attribute__((aligned(64))) adamw_config;"),
    "a callback has another argument": ("(*adamw_task)(void *task_data, size_t", "(*adamw_task)(void *task_data, uint32_t"),
    "a callback has another result": ("int32_t (*adamw_closure)", "int64_t (*adamw_closure)"),
    "a callback has one argument more": ("uint64_t total, void *user_data)", "uint64_t total, void *user_data, int more)"),
}
# What programs do not see.
GROWTH = {
    "nothing": (),
    "a struct that says its size grows": ("} adamw_config;", "  uint64_t more;\n} adamw_config;"),
    "what was reserved is used": ("uint32_t reserved_2;", "uint32_t used;"),
    "there is one function more": ("adamw_status adamw_step(", "adamw_status adamw_more(void);\nadamw_status adamw_step("),
    "there is one constant more": ("#define ADAMW_CLIP_VALUE 3", "#define ADAMW_CLIP_VALUE 3\n#define ADAMW_CLIP_MORE 4"),
}


def changed(header, changes):
    """Returns the header with changes."""
    for before, after in zip(changes[::2], changes[1::2]):
        assert before in header, before
        header = header.replace(before, after, 1)
    return header


def is_found(compiler, text):
    """Returns whether the promises of today do not hold for a header."""
    if set(promises.kept()) - set(promises.promises(text)):
        return True
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "adamw.h").write_text(text)
        options = "-std=c11", "-fsyntax-only", "-I", folder, promises.PROMISES
        return subprocess.run([compiler, *options], capture_output=True, check=False).returncode != 0


def main(compiler):
    """The exit status says whether each break is found, and nothing else."""
    header = promises.HEADER.read_text()
    missed = [what for what in BREAKS if not is_found(compiler, changed(header, BREAKS[what]))]
    refused = [what for what in GROWTH if is_found(compiler, changed(header, GROWTH[what]))]
    if missed or refused:
        sys.exit(f"not found: {missed}\nbut found: {refused}")


if __name__ == "__main__":
    main(sys.argv[1])
