package skillcache

/*
#include <skillcache.h>
*/
import "C"

import (
	"context"
	"encoding/json"
	"runtime"
	"sync"
	"time"
)

// Options are those of docs/CONFIGURATION.md, as text.
type Options map[string]string

// Data is what a run gets: anything that encoding/json writes as an object. Nil keeps the skill's own defaults.
type Data struct {
	Inputs  any
	Context any
}

// RunOptions are what one call asks for beyond the skill's own settings; the zero value asks for nothing.
type RunOptions struct {
	// Version is 0 for the newest.
	Version uint32 `json:"version,omitempty"`
	// Cache is auto, yes, no, refresh or required.
	Cache string `json:"cache,omitempty"`
	// TTLSeconds is how long the result may be handed out; 0 for the skill's own time, or the library's.
	TTLSeconds float64 `json:"ttl_s,omitempty"`
	// Trace is the caller's correlation id.
	Trace string `json:"trace,omitempty"`

	// What follows bounds this run instead of the skill's and the library's own limits, which may be smaller. Ranges are
	// those of the options of the same names (room sandbox).

	// TimeoutMS is wall-clock time.
	TimeoutMS uint64 `json:"timeout_ms,omitempty"`
	// MaxCPUSeconds is processor time.
	MaxCPUSeconds uint64 `json:"max_cpu_s,omitempty"`
	// MaxMemoryMB bounds the address space, in MiB.
	MaxMemoryMB uint64 `json:"max_memory_mb,omitempty"`
	// MaxFileMB bounds the private folder, in MiB; 0 is a bound, nil is none of its own.
	MaxFileMB *uint64 `json:"max_file_mb,omitempty"`
	// MaxOpenFiles bounds the descriptors.
	MaxOpenFiles uint64 `json:"max_open_files,omitempty"`
	// MaxThreads bounds the threads where they can be counted.
	MaxThreads uint64 `json:"max_threads,omitempty"`
	// MaxOutputKB bounds what is kept of stdout, and of stderr, in KiB; 0 is a bound, nil is none of its own.
	MaxOutputKB *uint64 `json:"max_output_kb,omitempty"`
	// MaxAnswerKB bounds the answer, in KiB of JSON text.
	MaxAnswerKB uint64 `json:"max_answer_kb,omitempty"`
}

// Library is an open skill library. Any goroutine may use it.
type Library struct {
	// calls counts those on their way into, through or out of the library; the mutex orders its growth with closing.
	calls   sync.WaitGroup
	mutex   sync.Mutex
	library *C.skc_library
	closing bool
	closed  chan struct{}
}

// Open opens a database file, or creates it; ":memory:" keeps nothing. Options may be nil.
func Open(path string, options Options) (*Library, error) {
	return OpenWith(path, options, Listeners{})
}

// OpenWith opens a library that tells listeners what happens.
func OpenWith(path string, options Options, listeners Listeners) (*Library, error) {
	if C.skc_abi() != C.SKC_ABI {
		return nil, newError(C.SKC_E_UNSUPPORTED, "libskillcache has another ABI than the header this package was built with")
	}
	var copies texts
	defer copies.free()
	config := C.skc_config_new()
	defer C.skc_config_free(config)
	for key, value := range options {
		name, text := copies.copy(key, "option"), copies.copy(value, key)
		if copies.err != nil {
			return nil, copies.err
		}
		var left *C.skc_error
		status := C.skc_config_set(config, name, text, &left)
		if err := failure(status, left); err != nil {
			return nil, err
		}
	}
	if err := listeners.addTo(config); err != nil {
		return nil, err
	}
	file := copies.copy(path, "path")
	if copies.err != nil {
		return nil, copies.err
	}
	var opened *C.skc_library
	var left *C.skc_error
	status := C.skc_library_open(file, config, &opened, &left)
	if err := failure(status, left); err != nil {
		return nil, err
	}
	library := &Library{library: opened, closed: make(chan struct{})}
	runtime.SetFinalizer(library, func(forgotten *Library) { _ = forgotten.Close() })
	return library, nil
}

// Close refuses new calls, cancels runs, waits for the calls in progress and closes. It may be called again.
func (l *Library) Close() error {
	l.mutex.Lock()
	first := !l.closing
	l.closing = true
	l.mutex.Unlock()
	if !first {
		<-l.closed
		return nil
	}
	runtime.SetFinalizer(l, nil)
	// Shutting down ends the calls in progress; freeing waits until the last one is back in Go.
	C.skc_library_shut_down(l.library)
	l.calls.Wait()
	status := C.skc_library_close(l.library)
	close(l.closed)
	return failure(status, nil)
}

// use runs a call with the C library, unless it is closed.
func (l *Library) use(call func(library *C.skc_library) error) error {
	l.mutex.Lock()
	if l.closing {
		l.mutex.Unlock()
		return newError(C.SKC_E_CLOSED, "the library is closed")
	}
	l.calls.Add(1)
	l.mutex.Unlock()
	defer l.calls.Done()
	return call(l.library)
}

// Put stores a skill and gives the version its content has.
func (l *Library) Put(skill Skill) (version uint32, err error) {
	draft, err := skill.draft()
	if err != nil {
		return 0, err
	}
	defer C.skc_skill_free(draft)
	err = l.use(func(library *C.skc_library) error {
		var number C.uint32_t
		var left *C.skc_error
		status := C.skc_library_put(library, draft, &number, &left)
		version = uint32(number)
		return failure(status, left)
	})
	return version, err
}

// Get gives a version of a skill; 0 is the newest.
func (l *Library) Get(id string, version uint32) (skill *Skill, err error) {
	var copies texts
	defer copies.free()
	name := copies.copy(id, "id")
	if copies.err != nil {
		return nil, copies.err
	}
	err = l.use(func(library *C.skc_library) error {
		var got *C.skc_skill
		var left *C.skc_error
		status := C.skc_library_get(library, name, C.uint32_t(version), &got, &left)
		if err := failure(status, left); err != nil {
			return err
		}
		defer C.skc_skill_free(got)
		skill = new(Skill)
		return json.Unmarshal(raw(C.skc_skill_json(got)), skill)
	})
	return skill, err
}

// Remove hides a skill and all its versions.
func (l *Library) Remove(id string) error {
	return l.withText(id, "id", func(library *C.skc_library, id *C.char, left **C.skc_error) C.skc_status {
		return C.skc_library_remove(library, id, left)
	})
}

// Clear empties a cache: "execution", "prepared", "metadata" or "all".
func (l *Library) Clear(which string) error {
	return l.withText(which, "cache", func(library *C.skc_library, which *C.char, left **C.skc_error) C.skc_status {
		return C.skc_library_clear(library, which, left)
	})
}

func (l *Library) withText(
	text, what string, call func(library *C.skc_library, text *C.char, left **C.skc_error) C.skc_status,
) error {
	var copies texts
	defer copies.free()
	copied := copies.copy(text, what)
	if copies.err != nil {
		return copies.err
	}
	return l.use(func(library *C.skc_library) error {
		var left *C.skc_error
		status := call(library, copied, &left)
		return failure(status, left)
	})
}

// Run runs a skill and waits for its end. With a context that can end, it goes through the task queue, so that it can be
// cancelled: when the context ends first, its error is given.
func (l *Library) Run(ctx context.Context, id string, data Data, options ...RunOptions) (*Result, error) {
	if ctx.Done() == nil {
		return l.runNow(id, data, options)
	}
	task, err := l.Submit(id, data, options...)
	if err != nil {
		return nil, err
	}
	defer task.Close()
	result, err := task.Wait(ctx)
	if result == nil && ctx.Err() != nil {
		_ = task.Cancel()
	}
	return result, err
}

func (l *Library) runNow(id string, data Data, options []RunOptions) (result *Result, err error) {
	err = l.start(id, data, options, func(
		library *C.skc_library, id, data *C.char, length C.size_t, options *C.char,
	) error {
		var ended *C.skc_result
		var left *C.skc_error
		status := C.skc_library_run(library, id, data, length, options, &ended, &left)
		if err := failure(status, left); err != nil {
			return err
		}
		var err error
		result, err = takeResult(ended)
		return err
	})
	return result, err
}

// Submit starts a run in the background. The data are copied. The skills that wait take turns: one with many tasks does
// not hold up another's. ErrBusy says that too many tasks wait (option task.queue).
func (l *Library) Submit(id string, data Data, options ...RunOptions) (task *Task, err error) {
	err = l.start(id, data, options, func(
		library *C.skc_library, id, data *C.char, length C.size_t, options *C.char,
	) error {
		var submitted *C.skc_task
		var left *C.skc_error
		status := C.skc_library_submit(library, id, data, length, options, &submitted, &left)
		if err := failure(status, left); err != nil {
			return err
		}
		task = newTask(submitted)
		return nil
	})
	return task, err
}

// start makes C texts of what a run needs; of several options the last counts.
func (l *Library) start(
	id string, data Data, options []RunOptions,
	call func(library *C.skc_library, id, data *C.char, length C.size_t, options *C.char) error,
) error {
	text, err := data.text()
	if err != nil {
		return err
	}
	asked := RunOptions{}
	for _, option := range options {
		asked = option
	}
	encoded, err := json.Marshal(asked)
	if err != nil {
		return newError(C.SKC_E_INVALID, "the options: "+err.Error())
	}
	var copies texts
	defer copies.free()
	name, wanted := copies.copy(id, "id"), copies.copy(string(encoded), "options")
	if copies.err != nil {
		return copies.err
	}
	begin, length := block(text)
	return l.use(func(library *C.skc_library) error { return call(library, name, begin, length, wanted) })
}

func (d Data) text() ([]byte, error) {
	members := map[string]json.RawMessage{}
	for name, value := range map[string]any{"inputs": d.Inputs, "context": d.Context} {
		text, err := json.Marshal(value)
		if err != nil {
			return nil, newError(C.SKC_E_INVALID, "the "+name+" have no JSON form: "+err.Error())
		}
		// A nil map is nothing as well, though it is no nil interface.
		if string(text) != "null" {
			members[name] = text
		}
	}
	return json.Marshal(members)
}

// document calls a function that gives a text.
func (l *Library) document(
	call func(library *C.skc_library, out **C.skc_blob, left **C.skc_error) C.skc_status,
) (text []byte, err error) {
	err = l.blob(call, func(blob *C.skc_blob) { text = raw(C.skc_blob_str(blob)) })
	return text, err
}

// blob calls a function that gives a blob, which lives while it is read.
func (l *Library) blob(
	call func(library *C.skc_library, out **C.skc_blob, left **C.skc_error) C.skc_status, read func(blob *C.skc_blob),
) error {
	return l.use(func(library *C.skc_library) error {
		var blob *C.skc_blob
		var left *C.skc_error
		status := call(library, &blob, &left)
		if err := failure(status, left); err != nil {
			return err
		}
		defer C.skc_blob_free(blob)
		read(blob)
		return nil
	})
}

// List gives the newest versions that pass a filter, without their code. The filter is a JSON object, or empty.
func (l *Library) List(filter string) (skills []Skill, err error) {
	var copies texts
	defer copies.free()
	wanted := copies.optional(filter, "filter")
	if copies.err != nil {
		return nil, copies.err
	}
	text, err := l.document(func(library *C.skc_library, out **C.skc_blob, left **C.skc_error) C.skc_status {
		return C.skc_library_list(library, wanted, out, left)
	})
	if err != nil {
		return nil, err
	}
	return skills, json.Unmarshal(text, &skills)
}

// A Script is a source with data written into it, so that it stands alone.
type Script struct {
	Code string
	// Method says how the places for the data were found: "ast", or "lexical" for a source that does not parse (option
	// inject.fallback).
	Method string
}

// Inject writes data into a source.
func (l *Library) Inject(code string, data Data) (script Script, err error) {
	text, err := data.text()
	if err != nil {
		return script, err
	}
	source, sourceLength := block([]byte(code))
	begin, length := block(text)
	err = l.blob(func(library *C.skc_library, out **C.skc_blob, left **C.skc_error) C.skc_status {
		return C.skc_library_inject(library, source, sourceLength, begin, length, out, left)
	}, func(blob *C.skc_blob) {
		script = Script{Code: string(raw(C.skc_blob_str(blob))), Method: string(raw(C.skc_blob_method(blob)))}
	})
	return script, err
}

// Validate says what is to be said about a source, as JSON: whether a put would take it, what the policy finds, what the
// source defines, imports and reads.
func (l *Library) Validate(code string) (json.RawMessage, error) {
	source, length := block([]byte(code))
	return l.document(func(library *C.skc_library, out **C.skc_blob, left **C.skc_error) C.skc_status {
		return C.skc_library_validate(library, source, length, out, left)
	})
}

// Stats gives the statistics as JSON; docs/STATISTICS.md describes them.
func (l *Library) Stats() (json.RawMessage, error) {
	return l.document(func(library *C.skc_library, out **C.skc_blob, left **C.skc_error) C.skc_status {
		return C.skc_library_stats(library, out, left)
	})
}

// A CacheAlert is a bound of a cache that is nearly reached.
type CacheAlert struct {
	// Cache is execution, prepared or metadata.
	Cache string `json:"cache"`
	// Bound is entries or bytes.
	Bound string `json:"bound"`
	// Size is how much of the bound is used, and MaxSize the bound.
	Size    uint64 `json:"size"`
	MaxSize uint64 `json:"max_size"`
	// Threshold is what was asked for.
	Threshold float64 `json:"threshold"`
	Message   string  `json:"message"`
}

// CheckCaches gives the bounds of the caches of which at least a threshold, from 0 to 1, is used now. Asking raises no event.
func (l *Library) CheckCaches(threshold float64) (alerts []CacheAlert, err error) {
	text, err := l.document(func(library *C.skc_library, out **C.skc_blob, left **C.skc_error) C.skc_status {
		return C.skc_library_check_caches(library, C.double(threshold), out, left)
	})
	if err != nil {
		return nil, err
	}
	return alerts, json.Unmarshal(text, &alerts)
}

// Hit is a skill that Search found.
type Hit struct {
	ID          string   `json:"id"`
	Version     uint32   `json:"version"`
	Name        string   `json:"name"`
	Description string   `json:"description"`
	Tags        []string `json:"tags"`
	State       string   `json:"state"`
	// Score is what it was ranked by: BM25, the cosine, or both mixed. The parts are nil where it has none.
	Score       float64  `json:"score"`
	TextScore   *float64 `json:"text_score"`
	VectorScore *float64 `json:"vector_score"`
}

// Search gives the skills that fit best, the best first. The query is a JSON object: text, embedding, min_score, vector_weight, and
// the members of a filter; limit is 5 unless given. What is not active is found only if state or active asks for it.
func (l *Library) Search(query string) (hits []Hit, err error) {
	var copies texts
	defer copies.free()
	wanted := copies.optional(query, "query")
	if copies.err != nil {
		return nil, copies.err
	}
	text, err := l.document(func(library *C.skc_library, out **C.skc_blob, left **C.skc_error) C.skc_status {
		return C.skc_library_search(library, wanted, out, left)
	})
	if err != nil {
		return nil, err
	}
	return hits, json.Unmarshal(text, &hits)
}

// SetState makes a skill active, quarantined (set aside) or retired (put away). What is not active is not run and not found.
func (l *Library) SetState(id, state string) error {
	var copies texts
	defer copies.free()
	wanted := copies.copy(state, "state")
	if copies.err != nil {
		return copies.err
	}
	return l.withText(id, "id", func(library *C.skc_library, id *C.char, left **C.skc_error) C.skc_status {
		return C.skc_library_set_state(library, id, wanted, left)
	})
}

// EvictExpired drops what is expired in all caches, and of the results in the database, and says how many entries that were.
func (l *Library) EvictExpired() (count uint64, err error) {
	err = l.use(func(library *C.skc_library) error {
		var number C.uint64_t
		var left *C.skc_error
		status := C.skc_library_evict_expired(library, &number, &left)
		count = uint64(number)
		return failure(status, left)
	})
	return count, err
}

// RebuildIndex makes the index of words anew from the skills and says how many it has.
func (l *Library) RebuildIndex() (count uint64, err error) {
	err = l.use(func(library *C.skc_library) error {
		var number C.uint64_t
		var left *C.skc_error
		status := C.skc_library_rebuild_index(library, &number, &left)
		count = uint64(number)
		return failure(status, left)
	})
	return count, err
}

// A CheckReport is what a check of the database file found.
type CheckReport struct {
	// OK says that nothing was found.
	OK       bool           `json:"ok"`
	Findings []CheckFinding `json:"findings"`
	// TookMs is how long it took, in milliseconds.
	TookMs uint64 `json:"took_ms"`
}

// A CheckFinding is one thing that is wrong with a database file.
type CheckFinding struct {
	// Kind is header, schema, page, foreign_key, content, version, search or unreadable.
	Kind    string `json:"kind"`
	Where   string `json:"where"`
	Message string `json:"message"`
}

// Check checks the database file now: quick reads every page, full also holds every index and every skill against what it should
// be. Damage is in the report and no error.
func (l *Library) Check(which string) (report CheckReport, err error) {
	var copies texts
	defer copies.free()
	wanted := copies.copy(which, "which")
	if copies.err != nil {
		return CheckReport{}, copies.err
	}
	text, err := l.document(func(library *C.skc_library, out **C.skc_blob, left **C.skc_error) C.skc_status {
		return C.skc_library_check(library, wanted, out, left)
	})
	if err != nil {
		return CheckReport{}, err
	}
	return report, json.Unmarshal(text, &report)
}

// Backup writes a copy of the database as of now to a path where nothing is yet, while others read and write.
func (l *Library) Backup(path string) error {
	return l.withText(path, "path", func(library *C.skc_library, path *C.char, left **C.skc_error) C.skc_status {
		return C.skc_library_backup(library, path, left)
	})
}

// Recommendation is something that somebody could change.
type Recommendation struct {
	// Rule is a name of docs/STATISTICS.md.
	Rule string `json:"rule"`
	// Severity is info or warning.
	Severity string `json:"severity"`
	Message  string `json:"message"`
	Remedy   string `json:"remedy"`
	// Evidence has the numbers behind it, and Sample how many there were to judge by.
	Evidence map[string]any `json:"evidence"`
	Sample   uint64         `json:"sample"`
}

// Recommendations gives what somebody could change, judged by the statistics alone; none while all is well, or too little has happened
// to say.
func (l *Library) Recommendations() (found []Recommendation, err error) {
	text, err := l.document(func(library *C.skc_library, out **C.skc_blob, left **C.skc_error) C.skc_status {
		return C.skc_library_recommendations(library, out, left)
	})
	if err != nil {
		return nil, err
	}
	return found, json.Unmarshal(text, &found)
}

// History gives how some of the numbers went, as JSON: interval_s and samples, the newest last.
func (l *Library) History() (json.RawMessage, error) {
	return l.document(func(library *C.skc_library, out **C.skc_blob, left **C.skc_error) C.skc_status {
		return C.skc_library_history(library, out, left)
	})
}

// DayCount is how many calls of a version ended in one way on one day.
type DayCount struct {
	// Day is a date in UTC, as in 2026-01-31.
	Day     string `json:"day"`
	Skill   string `json:"skill"`
	Version uint32 `json:"version"`
	Outcome string `json:"outcome"`
	Count   uint64 `json:"count"`
}

// Outcomes gives how the calls of a skill, or of all skills for an empty id, ended, those of earlier processes too, the oldest day first.
func (l *Library) Outcomes(id string) (days []DayCount, err error) {
	var copies texts
	defer copies.free()
	wanted := copies.optional(id, "id")
	if copies.err != nil {
		return nil, copies.err
	}
	text, err := l.document(func(library *C.skc_library, out **C.skc_blob, left **C.skc_error) C.skc_status {
		return C.skc_library_outcomes(library, wanted, out, left)
	})
	if err != nil {
		return nil, err
	}
	return days, json.Unmarshal(text, &days)
}

// ReportMemory reads this process's memory figures now, records them as the event memory_report, and gives them as JSON: the section
// memory of the statistics.
func (l *Library) ReportMemory() (json.RawMessage, error) {
	return l.document(func(library *C.skc_library, out **C.skc_blob, left **C.skc_error) C.skc_status {
		return C.skc_library_report_memory(library, out, left)
	})
}

// Metrics gives the same numbers as OpenMetrics text.
func (l *Library) Metrics() (string, error) {
	text, err := l.document(func(library *C.skc_library, out **C.skc_blob, left **C.skc_error) C.skc_status {
		return C.skc_library_metrics(library, out, left)
	})
	return string(text), err
}

// Health tries each part and gives a JSON report.
func (l *Library) Health() (json.RawMessage, error) {
	return l.document(func(library *C.skc_library, out **C.skc_blob, left **C.skc_error) C.skc_status {
		return C.skc_library_health(library, out, left)
	})
}

// EventFD gives a descriptor that is readable while events wait, for hosts that poll; the library owns it. -1 for a library whose events go
// to a listener.
func (l *Library) EventFD() (fd int, err error) {
	err = l.use(func(library *C.skc_library) error {
		fd = int(C.skc_library_event_fd(library))
		return nil
	})
	return fd, err
}

// NextEvent gives the oldest unread event as JSON, waiting until the context ends. Each event goes to one caller.
func (l *Library) NextEvent(ctx context.Context) (json.RawMessage, error) {
	for {
		event, err := l.document(func(library *C.skc_library, out **C.skc_blob, left **C.skc_error) C.skc_status {
			return C.skc_library_next_event(library, C.int64_t(slice/time.Millisecond), out, left)
		})
		if timedOut, ok := err.(*Error); !ok || timedOut.Code != C.SKC_E_TIMEOUT {
			return event, err
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
}
