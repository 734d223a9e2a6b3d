package skillcache

/*
#include <skillcache.h>
*/
import "C"

import (
	"encoding/json"
	"errors"
)

// Error says why a call could not be carried out.
type Error struct {
	// Code is the number of the SKC_E_... constant.
	Code int `json:"code"`
	// Name is its name: "E_NOT_FOUND".
	Name string `json:"name"`
	// Message is one sentence: what was wrong, where, and what would be right.
	Message string `json:"message"`
	// Line and Column count from 1; 0 where they do not apply.
	Line   int `json:"line"`
	Column int `json:"column"`
	// Path is the place in the data, as in "$.inputs.prices[3]".
	Path string `json:"path"`
	// Rule is the rule that refused it.
	Rule string `json:"rule"`
	// Missing names what is not there: guarantees, packages, skills.
	Missing []string `json:"missing"`
	// Findings is what the policy found, each as Library.Validate lists it.
	Findings json.RawMessage `json:"findings"`
	// Report is what Library.Import had done before it stopped: an ImportReport as JSON.
	Report json.RawMessage `json:"report"`
	// Suggestion is the nearest known name.
	Suggestion string `json:"suggestion"`
	// Retriable says that the same call may succeed later.
	Retriable bool `json:"retriable"`
}

func (e *Error) Error() string { return e.Message }

// Is matches a sentinel of the same code.
func (e *Error) Is(target error) bool {
	var other *Error
	return errors.As(target, &other) && other.Code == e.Code
}

// One sentinel for each status, for errors.Is.
var (
	ErrInvalid       = sentinel(C.SKC_E_INVALID)
	ErrNotFound      = sentinel(C.SKC_E_NOT_FOUND)
	ErrConflict      = sentinel(C.SKC_E_CONFLICT)
	ErrTimeout       = sentinel(C.SKC_E_TIMEOUT)
	ErrCancelled     = sentinel(C.SKC_E_CANCELLED)
	ErrSandbox       = sentinel(C.SKC_E_SANDBOX)
	ErrDatabase      = sentinel(C.SKC_E_DATABASE)
	ErrBusy          = sentinel(C.SKC_E_BUSY)
	ErrForked        = sentinel(C.SKC_E_FORKED)
	ErrPanic         = sentinel(C.SKC_E_PANIC)
	ErrUnsupported   = sentinel(C.SKC_E_UNSUPPORTED)
	ErrSyntax        = sentinel(C.SKC_E_SYNTAX)
	ErrSecurity      = sentinel(C.SKC_E_SECURITY)
	ErrCacheOverflow = sentinel(C.SKC_E_CACHE_OVERFLOW)
	ErrPoolExhausted = sentinel(C.SKC_E_POOL_EXHAUSTED)
	ErrCorrupt       = sentinel(C.SKC_E_CORRUPT)
	ErrNewerDatabase = sentinel(C.SKC_E_NEWER_DATABASE)
	ErrValidation    = sentinel(C.SKC_E_VALIDATION)
	ErrClosed        = sentinel(C.SKC_E_CLOSED)
)

func sentinel(code C.skc_status) error { return newError(code, "") }

func newError(code C.skc_status, message string) *Error {
	name := C.GoString(C.skc_status_name(code))
	if message == "" {
		message = name
	}
	return &Error{Code: int(code), Name: name, Message: message}
}

// failure turns what a call left into an error, and frees it; nil for SKC_OK.
func failure(status C.skc_status, left *C.skc_error) error {
	defer C.skc_error_free(left)
	if status == C.SKC_OK {
		return nil
	}
	failed := newError(status, "")
	if left != nil {
		// The library's own document; were it not JSON, the status would still say what is known.
		_ = json.Unmarshal(raw(C.skc_error_json(left)), failed)
	}
	return failed
}
