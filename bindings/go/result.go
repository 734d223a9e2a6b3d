package skillcache

/*
#include <skillcache.h>
*/
import "C"

import (
	stdbytes "bytes"
	"encoding/json"
	"time"
	"unsafe"
)

// Outcomes, in the order of their numbers.
const (
	Success       = "success"
	Failed        = "error"
	NoResult      = "no_result"
	InvalidInput  = "invalid_input"
	InvalidOutput = "invalid_output"
	Rejected      = "rejected"
	Denied        = "denied"
	TimedOut      = "timeout"
	MemoryLimit   = "memory_limit"
	OutputLimit   = "output_limit"
	DiskLimit     = "disk_limit"
	Crashed       = "crashed"
	Cancelled     = "cancelled"
)

// Result is how a run ended. It is a copy: it needs no closing and outlives the library.
type Result struct {
	Outcome string
	// Value is the answer as JSON; nil unless the outcome is Success.
	Value json.RawMessage
	// Failure says why; nil on success.
	Failure *Failure
	// Cached says whether memory answered.
	Cached bool
	// Version of the skill that ran.
	Version uint32
	// Stdout and Stderr are what the skill wrote, raw; cut where truncated.
	Stdout, Stderr                   []byte
	StdoutTruncated, StderrTruncated bool
	// Level is what confined the run: "strict", "partial", "process-only"; "none" if nothing ran.
	Level string
	// Sandbox is what confined it, layer by layer, as JSON (level, layers, guarantees, missing); nil if nothing ran.
	Sandbox json.RawMessage
	// TraceID is how events and log lines name the run: 32 hexadecimal digits, those of the call's Trace if that is a W3C traceparent,
	// or else the run's own.
	TraceID string
	// Duration of the call, CPU time of the child.
	Duration, CPU time.Duration
	// PeakMemoryBytes is the child's largest resident size; 0 if it could not be read.
	PeakMemoryBytes uint64
	// What it wrote, kept or not; the size of its answer; what its private folder held at the end.
	StdoutBytes, StderrBytes, AnswerBytes, FolderBytes uint64
}

// Failure is why a run did not succeed. What does not apply is empty.
type Failure struct {
	Type      string `json:"type"`
	Message   string `json:"message"`
	Line      int    `json:"line"`
	Traceback string `json:"traceback"`
	Path      string `json:"path"`
	Rule      string `json:"rule"`
	Signal    string `json:"signal"`
}

// Decode reads the answer into a value. Numbers in an interface are json.Number, so that integers of any size stay exact.
func (r *Result) Decode(into any) error {
	decoder := json.NewDecoder(stdbytes.NewReader(r.Value))
	decoder.UseNumber()
	return decoder.Decode(into)
}

// copyResult copies everything out of a borrowed C result.
func copyResult(result *C.skc_result) (*Result, error) {
	var view C.skc_view
	C.skc_result_view(result, &view, C.size_t(unsafe.Sizeof(view)))
	copied := &Result{
		Outcome:         C.GoString(C.skc_outcome_name(view.outcome)),
		Cached:          bool(view.cached),
		Version:         uint32(view.skill_version),
		Stdout:          raw(view.captured_stdout),
		Stderr:          raw(view.captured_stderr),
		StdoutTruncated: bool(view.stdout_truncated),
		StderrTruncated: bool(view.stderr_truncated),
		Level:           str(view.level),
		Duration:        time.Duration(view.duration_us) * time.Microsecond,
		CPU:             time.Duration(view.cpu_us) * time.Microsecond,
		PeakMemoryBytes: uint64(view.peak_memory_bytes),
		StdoutBytes:     uint64(view.stdout_written_bytes),
		StderrBytes:     uint64(view.stderr_written_bytes),
		AnswerBytes:     uint64(view.answer_bytes),
		FolderBytes:     uint64(view.folder_bytes),
		TraceID:         str(view.trace_id),
	}
	if view.sandbox_json.len > 0 {
		copied.Sandbox = raw(view.sandbox_json)
	}
	if view.outcome == C.SKC_OUTCOME_SUCCESS {
		copied.Value = raw(view.value)
		return copied, nil
	}
	copied.Failure = new(Failure)
	if err := json.Unmarshal(raw(view.error_json), copied.Failure); err != nil {
		return nil, newError(C.SKC_E_PANIC, "the library's own JSON cannot be read: "+err.Error())
	}
	return copied, nil
}

func takeResult(result *C.skc_result) (*Result, error) {
	defer C.skc_result_free(result)
	return copyResult(result)
}
