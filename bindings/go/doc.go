// Package skillcache embeds the skill library that agents use: it stores small Python programs, runs them in a child
// process with limits, and answers equal calls from memory.
//
//	library, err := skillcache.Open("skills.db", skillcache.Options{"sandbox.timeout_ms": "2000"})
//	defer library.Close()
//	_, err = library.Put(skillcache.Skill{ID: "mean", Code: "result = sum(inputs['x']) / len(inputs['x'])"})
//	result, err := library.Run(ctx, "mean", skillcache.Data{Inputs: map[string]any{"x": []int{1, 2, 6}}})
//
// A run that fails inside the skill is a [Result] with an outcome; an error means that the call itself could not be
// carried out. Errors are [*Error] and match the sentinels [ErrNotFound], [ErrSyntax] and so on with errors.Is.
//
// A [Library] and a [Task] may be used by any goroutine; a [Result] is a copy that needs no closing. Values go in as
// anything encoding/json can write, and come out as JSON, in which integers are exact: see [Result.Decode].
package skillcache

/*
#cgo pkg-config: skillcache
#include <skillcache.h>
*/
import "C"

// Version is that of the loaded library, as in "0.1.0".
func Version() string { return C.GoString(C.skc_version_string()) }
