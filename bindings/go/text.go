package skillcache

/*
#include <skillcache.h>
#include <stdlib.h>
*/
import "C"

import (
	"fmt"
	"strings"
	"unsafe"
)

// raw copies a borrowed text.
func raw(text C.skc_str) []byte {
	return C.GoBytes(unsafe.Pointer(text.ptr), C.int(text.len))
}

func str(text C.skc_str) string { return string(raw(text)) }

// texts are C copies of Go strings that are freed together. In C a text ends at its first NUL, so one that has a NUL is
// refused rather than cut.
type texts struct {
	copies []*C.char
	err    error
}

func (t *texts) copy(value, what string) *C.char {
	if strings.IndexByte(value, 0) >= 0 && t.err == nil {
		t.err = newError(C.SKC_E_INVALID, fmt.Sprintf("the %s must not contain NUL", what))
	}
	copied := C.CString(value)
	t.copies = append(t.copies, copied)
	return copied
}

// optional is NULL for an empty text, which the library takes as its default.
func (t *texts) optional(value, what string) *C.char {
	if value == "" {
		return nil
	}
	return t.copy(value, what)
}

func (t *texts) free() {
	for _, copied := range t.copies {
		C.free(unsafe.Pointer(copied))
	}
}

// block passes bytes with their length; Go keeps them in place during the call.
func block(data []byte) (*C.char, C.size_t) {
	if len(data) == 0 {
		return nil, 0
	}
	return (*C.char)(unsafe.Pointer(unsafe.SliceData(data))), C.size_t(len(data))
}
