// As examples/c/train.c, with cgo. usage: train <checkpoint>
package main

/*
#include <adamw.h>
#include <stdlib.h>

extern int32_t decays(char *name, void *user_data);
*/
import "C"

import (
	"fmt"
	"hash/adler32"
	"os"
	"runtime"
	"unsafe"
)

const (
	n        = 64
	numSteps = 50
)

// The library keeps addresses, so the memory is C's: Go's garbage collector would not know.
type array struct {
	data   unsafe.Pointer
	floats []float32
}

func newArray() array {
	data := C.calloc(n, 4)
	return array{data, unsafe.Slice((*float32)(data), n)}
}

var weight, bias, weightGrad, biasGrad = newArray(), newArray(), newArray(), newArray()

func check(status C.adamw_status) {
	if status != C.ADAMW_STATUS_OK {
		fmt.Fprintln(os.Stderr, C.GoString(C.adamw_last_error()))
		os.Exit(1)
	}
}

//export decays
func decays(name *C.char, _ unsafe.Pointer) C.int32_t {
	if C.GoString(name) == "bias" {
		return 0
	}
	return 1
}

func add(optimizer *C.adamw_optimizer, name string, param, grad array) {
	text := C.CString(name)
	defer C.free(unsafe.Pointer(text))
	var number C.uint32_t
	check(C.adamw_add_array(optimizer, text, param.data, n, C.ADAMW_DTYPE_F32, &number))
	check(C.adamw_set_grad_array(optimizer, number, grad.data, n, C.ADAMW_DTYPE_F32))
}

func newOptimizer() *C.adamw_optimizer {
	var optimizer *C.adamw_optimizer
	check(C.adamw_create(nil, &optimizer))
	check(C.adamw_set_lr(optimizer, 0.05))
	check(C.adamw_set_decay_filter(optimizer, (C.adamw_decay_filter)(C.decays), nil))
	add(optimizer, "weight", weight, weightGrad)
	add(optimizer, "bias", bias, biasGrad)
	return optimizer
}

func train(optimizer *C.adamw_optimizer) {
	for step := 0; step < numSteps; step++ {
		for i := 0; i < n; i++ {
			weightGrad.floats[i] = weight.floats[i] - float32(i)/16
			biasGrad.floats[i] = bias.floats[i] + float32(i)/16
		}
		check(C.adamw_step(optimizer))
	}
}

func main() {
	// adamw_last_error is of the thread of the failed call, and a goroutine may change threads.
	runtime.LockOSThread()
	path := C.CString(os.Args[1])
	optimizer := newOptimizer()
	train(optimizer)
	check(C.adamw_save(optimizer, path))
	check(C.adamw_destroy(optimizer))

	optimizer = newOptimizer()
	check(C.adamw_load(optimizer, path, nil))
	train(optimizer)
	check(C.adamw_destroy(optimizer))

	bytes := append(C.GoBytes(weight.data, 4*n), C.GoBytes(bias.data, 4*n)...)
	fmt.Printf("%08X\n", adler32.Checksum(bytes))
}
