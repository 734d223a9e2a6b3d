package skillcache

/*
#include <stddef.h>
#include <stdlib.h>
*/
import "C"

import (
	"encoding/json"
	"runtime/cgo"
	"unsafe"
)

//export skcGoLine
func skcGoLine(userData unsafe.Pointer, text *C.char, length C.size_t) {
	listener := (*(*cgo.Handle)(userData)).Value().(func(json.RawMessage))
	listener(json.RawMessage(C.GoBytes(unsafe.Pointer(text), C.int(length))))
}

//export skcGoDrop
func skcGoDrop(userData unsafe.Pointer) {
	(*(*cgo.Handle)(userData)).Delete()
	C.free(userData)
}
