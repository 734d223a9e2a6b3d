package skillcache_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"skillcache"
)

const mean = "result = sum(inputs['x']) / len(inputs['x'])"
const sleep = "import time\ntime.sleep(inputs['s'])\nresult = 'awake'"

type inputs = map[string]any

func open(t *testing.T, options skillcache.Options) *skillcache.Library {
	t.Helper()
	library, err := skillcache.Open(":memory:", options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = library.Close() })
	return library
}

func put(t *testing.T, library *skillcache.Library, id, code string) {
	t.Helper()
	if _, err := library.Put(skillcache.Skill{ID: id, Code: code}); err != nil {
		t.Fatal(err)
	}
}

func run(t *testing.T, library *skillcache.Library, id string, data inputs, options ...skillcache.RunOptions) *skillcache.Result {
	t.Helper()
	result, err := library.Run(context.Background(), id, skillcache.Data{Inputs: data}, options...)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// getCounted gives a skill once so many calls of it are counted: whoever asks waits only a moment for that to be written.
func getCounted(library *skillcache.Library, id string, count uint64) (*skillcache.Skill, error) {
	deadline := time.Now().Add(time.Minute)
	for {
		skill, err := library.Get(id, 0)
		if err != nil || skill.UsageCount >= count || time.Now().After(deadline) {
			return skill, err
		}
	}
}

func TestASkillAnswersAndTheSecondCallComesFromMemory(t *testing.T) {
	library := open(t, skillcache.Options{"sandbox.timeout_ms": "60000"})
	version, err := library.Put(skillcache.Skill{
		ID: "mean", Code: mean, Description: "arithmetic mean", Tags: []string{"math"},
		InputSchema: json.RawMessage(`{"type": "object", "required": ["x"]}`), More: map[string]string{"ttl_s": "60"},
	})
	if err != nil || version != 1 {
		t.Fatal(version, err)
	}
	first := run(t, library, "mean", inputs{"x": []int{1, 2, 6}})
	if first.Outcome != skillcache.Success || string(first.Value) != "3.0" || first.Cached || first.Level != "strict" {
		t.Fatalf("%+v", first)
	}
	if first.CPU == 0 || first.PeakMemoryBytes == 0 || first.Version != 1 {
		t.Fatalf("%+v", first)
	}
	second := run(t, library, "mean", inputs{"x": []int{1, 2, 6}})
	if !second.Cached || string(second.Value) != "3.0" {
		t.Fatalf("%+v", second)
	}
	skill, err := getCounted(library, "mean", 2)
	if err != nil || skill.Code != mean || skill.Tags[0] != "math" || skill.UsageCount != 2 {
		t.Fatalf("%+v %v", skill, err)
	}
	skills, err := library.List(`{"tags": ["math"]}`)
	if err != nil || len(skills) != 1 || skills[0].ID != "mean" {
		t.Fatalf("%+v %v", skills, err)
	}
	invalid := run(t, library, "mean", inputs{})
	if invalid.Outcome != skillcache.InvalidInput || invalid.Failure.Rule != "required" {
		t.Fatalf("%+v", invalid)
	}
	if err := library.Clear("all"); err != nil {
		t.Fatal(err)
	}
	if err := library.Remove("mean"); err != nil {
		t.Fatal(err)
	}
}

func TestAFailingRunIsAResult(t *testing.T) {
	library := open(t, nil)
	put(t, library, "bad", "print('out')\nraise ValueError('boom')")
	result := run(t, library, "bad", nil)
	failure := result.Failure
	if result.Outcome != skillcache.Failed || failure.Type != "ValueError" || failure.Message != "boom" || failure.Line != 2 {
		t.Fatalf("%+v %+v", result, failure)
	}
	if result.Value != nil || string(result.Stdout) != "out\n" || !strings.Contains(failure.Traceback, "line 2") {
		t.Fatalf("%+v", result)
	}
	if timedOut := func() string {
		put(t, library, "endless", "while True: pass")
		return run(t, library, "endless", nil, skillcache.RunOptions{TimeoutMS: 100}).Outcome
	}(); timedOut != skillcache.TimedOut {
		t.Fatal(timedOut)
	}
}

func TestValuesStayExact(t *testing.T) {
	library := open(t, nil)
	put(t, library, "echo", "result = inputs['v']")
	const big = "123456789012345678901234567890"
	result := run(t, library, "echo", inputs{"v": json.Number(big)})
	var value any
	if err := result.Decode(&value); err != nil || value != json.Number(big) {
		t.Fatal(value, err)
	}
	var text string
	if err := run(t, library, "echo", inputs{"v": "é\x00\u2028😀"}).Decode(&text); err != nil || text != "é\x00\u2028😀" {
		t.Fatalf("%q %v", text, err)
	}
}

func TestErrorsMatchTheirSentinelsAndLeaveTheLibraryWorking(t *testing.T) {
	library := open(t, nil)
	background := context.Background()
	for name, test := range map[string]struct {
		call func() error
		want error
		says string
	}{
		"no such skill": {func() error {
			_, err := library.Run(background, "nope", skillcache.Data{})
			return err
		}, skillcache.ErrNotFound, "nope"},
		"syntax": {func() error {
			_, err := library.Put(skillcache.Skill{ID: "s", Code: "x = 1\nreturn x"})
			return err
		}, skillcache.ErrSyntax, "return"},
		"unknown option": {func() error {
			_, err := skillcache.Open(":memory:", skillcache.Options{"pool.sise": "3"})
			return err
		}, skillcache.ErrInvalid, "pool.size"},
		"option out of range": {func() error {
			_, err := skillcache.Open(":memory:", skillcache.Options{"pool.size": "0"})
			return err
		}, skillcache.ErrInvalid, "1000"},
		"strict": {func() error {
			bare, err := skillcache.Open(":memory:", skillcache.Options{"sandbox.without": "namespaces, landlock, seccomp"})
			if err != nil {
				return err
			}
			defer bare.Close()
			_, err = bare.Put(skillcache.Skill{ID: "s", Code: "result = 1"})
			return err
		}, skillcache.ErrSandbox, "files"},
		"missing folder": {func() error {
			_, err := skillcache.Open(filepath.Join(t.TempDir(), "missing", "skills.db"), nil)
			return err
		}, skillcache.ErrDatabase, "missing"},
		"inputs that are no object": {func() error {
			_, err := library.Run(background, "fine", skillcache.Data{Inputs: []int{1}})
			return err
		}, skillcache.ErrInvalid, "$.inputs"},
		"inputs without a JSON form": {func() error {
			_, err := library.Run(background, "fine", skillcache.Data{Inputs: inputs{"f": func() {}}})
			return err
		}, skillcache.ErrInvalid, "JSON"},
		"NUL": {func() error { return library.Remove("a\x00b") }, skillcache.ErrInvalid, "NUL"},
		"text that is not UTF-8": {func() error {
			_, err := library.Get("\xff", 0)
			return err
		}, skillcache.ErrInvalid, "UTF-8"},
		"unknown cache": {func() error { return library.Clear("caches") }, skillcache.ErrInvalid, "execution"},
	} {
		t.Run(name, func(t *testing.T) {
			err := test.call()
			if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) {
				t.Fatalf("%v, want %v that says %q", err, test.want, test.says)
			}
			put(t, library, "fine", "result = 'fine'")
			if string(run(t, library, "fine", nil).Value) != `"fine"` {
				t.Fatal("the library does not work any more")
			}
		})
	}
	_, err := library.Put(skillcache.Skill{ID: "s", Code: "x = 1\nresult = 1 +* 2"})
	var failed *skillcache.Error
	if !errors.As(err, &failed) || failed.Line != 2 || failed.Column != 13 || failed.Name != "E_SYNTAX" {
		t.Fatalf("%+v", failed)
	}
}

func TestAContextThatEndsCancelsTheRun(t *testing.T) {
	library := open(t, nil)
	put(t, library, "sleep", sleep)
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	begin := time.Now()
	_, err := library.Run(ctx, "sleep", skillcache.Data{Inputs: inputs{"s": 60}})
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) > 20*time.Second {
		t.Fatal(err, time.Since(begin))
	}
	patient, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	result, err := library.Run(patient, "sleep", skillcache.Data{Inputs: inputs{"s": 0}})
	if err != nil || string(result.Value) != `"awake"` {
		t.Fatal(result, err)
	}
}

func TestSkillsAreFoundByEmbeddingAndSetAside(t *testing.T) {
	library := open(t, nil)
	for id, vector := range map[string][]float32{"east": {1, 0}, "north": {0, 1}} {
		skill := skillcache.Skill{ID: id, Code: "result = 1", Embedding: vector, Author: "ann"}
		if _, err := library.Put(skill); err != nil {
			t.Fatal(err)
		}
	}
	hits, err := library.Search(`{"embedding": [0, 2]}`)
	if err != nil || len(hits) != 2 || hits[0].ID != "north" || *hits[0].VectorScore != 1 || hits[0].TextScore != nil {
		t.Fatal(hits, err)
	}
	if err := library.SetState("north", "retired"); err != nil {
		t.Fatal(err)
	}
	if hits, err = library.Search(`{"embedding": [0, 2]}`); err != nil || len(hits) != 1 || hits[0].ID != "east" {
		t.Fatal(hits, err)
	}
	if result := run(t, library, "north", nil, skillcache.RunOptions{}); result.Outcome != skillcache.Rejected {
		t.Fatal(result)
	}
	north, err := getCounted(library, "north", 1)
	if err != nil || north.State != "retired" || north.Author != "ann" || north.Outcomes["rejected"] != 1 {
		t.Fatal(north, err)
	}
	if count, err := library.RebuildIndex(); err != nil || count != 2 {
		t.Fatal(count, err)
	}
	if count, err := library.EvictExpired(); err != nil || count != 0 {
		t.Fatal(count, err)
	}
	if err := library.SetState("north", "gone"); !errors.Is(err, skillcache.ErrInvalid) {
		t.Fatal(err)
	}
	if _, err := library.Search(`{"embedding": [1]}`); !errors.Is(err, skillcache.ErrInvalid) {
		t.Fatal(err)
	}
}

func isReadable(fd int) bool {
	var set syscall.FdSet
	set.Bits[fd/64] |= 1 << (uint(fd) % 64)
	count, err := syscall.Select(fd+1, &set, nil, nil, &syscall.Timeval{})
	return count == 1 && err == nil
}

func TestTasks(t *testing.T) {
	library, gate := held(t)
	put(t, library, "sleep", sleep)
	task, err := library.Submit("s", skillcache.Data{})
	if err != nil {
		t.Fatal(err)
	}
	if done, err := task.Done(); done || err != nil || isReadable(task.FD()) {
		t.Fatal(done, err)
	}
	gate.open(t)
	for range 2 {
		if result, err := task.Wait(context.Background()); err != nil || string(result.Value) != `"awake"` {
			t.Fatal(result, err)
		}
	}
	if !isReadable(task.FD()) {
		t.Fatal("it has finished")
	}
	task.Close()
	task.Close()
	if _, err := task.Wait(context.Background()); !errors.Is(err, skillcache.ErrClosed) || task.FD() != -1 {
		t.Fatal(err)
	}
	endless, err := library.Submit("sleep", skillcache.Data{Inputs: inputs{"s": 60}})
	if err != nil || endless.Cancel() != nil {
		t.Fatal(err)
	}
	if result, err := endless.Wait(context.Background()); err != nil || result.Outcome != skillcache.Cancelled {
		t.Fatal(result, err)
	}
}

func TestACallLimitsBeforeTheSkillAndTheSkillBeforeTheLibrary(t *testing.T) {
	library := open(t, skillcache.Options{"policy.mode": "off", "sandbox.max_cpu_s": "9", "sandbox.max_file_mb": "1"})
	code := "import resource\nsoft = lambda name: resource.getrlimit(getattr(resource, name))[0]\n" +
		"print('x' * 3000)\nresult = [soft('RLIMIT_CPU'), soft('RLIMIT_FSIZE') >> 20, soft('RLIMIT_NOFILE')]"
	skill := skillcache.Skill{
		ID: "s", Code: code, Cache: "no", Limits: map[string]uint64{"max_cpu_s": 6, "max_output_kb": 1},
		More: map[string]string{"max_cpu_s": "5"},
	}
	if _, err := library.Put(skill); err != nil {
		t.Fatal(err)
	}
	none := uint64(0)
	asked := skillcache.RunOptions{MaxCPUSeconds: 3, MaxFileMB: &none, MaxOpenFiles: 32, MaxOutputKB: &none}
	for _, test := range []struct {
		options skillcache.RunOptions
		value   string
		output  int
	}{{skillcache.RunOptions{}, "[5,1,64]", 1024}, {asked, "[3,0,32]", 0}} {
		result := run(t, library, "s", nil, test.options)
		if string(result.Value) != test.value || len(result.Stdout) != test.output {
			t.Fatalf("%+v %+v", result, result.Failure)
		}
	}
	stored, err := library.Get("s", 0)
	if err != nil || stored.Limits["max_cpu_s"] != 5 || len(stored.Limits) != 2 {
		t.Fatal(stored, err)
	}
	skill.Limits, skill.More = map[string]uint64{"max_cpu_s": 0}, nil
	if _, err := library.Put(skill); !errors.Is(err, skillcache.ErrInvalid) || !strings.Contains(err.Error(), "86400") {
		t.Fatal(err)
	}
}

// occupied gives a library whose one worker and whose one place in the queue are taken, and both tasks.
func occupied(t *testing.T) (library *skillcache.Library, running, waiting *skillcache.Task) {
	library = open(t, skillcache.Options{"task.workers": "1", "task.queue": "1"})
	put(t, library, "sleep", sleep)
	submit := func() (task *skillcache.Task) {
		for {
			task, err := library.Submit("sleep", skillcache.Data{Inputs: inputs{"s": 60}})
			if err == nil {
				return task
			}
			// The worker has not taken the first one yet.
			if !errors.Is(err, skillcache.ErrBusy) {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	return library, submit(), submit()
}

func TestAWaitingTaskIsCancelledAtOnceAndItsPlaceIsFree(t *testing.T) {
	library, running, waiting := occupied(t)
	quick := skillcache.Data{Inputs: inputs{"s": 0}}
	if _, err := library.Submit("sleep", quick); !errors.Is(err, skillcache.ErrBusy) {
		t.Fatal(err)
	}
	if err := waiting.Cancel(); err != nil {
		t.Fatal(err)
	}
	if done, err := waiting.Done(); !done || err != nil {
		t.Fatal(done, err)
	}
	if result, err := waiting.Wait(context.Background()); err != nil || result.Outcome != skillcache.Cancelled {
		t.Fatal(result, err)
	}
	if done, err := running.Done(); done || err != nil {
		t.Fatal("the running one goes on", err)
	}
	data := inputs{"s": 0}
	next, err := library.Submit("sleep", skillcache.Data{Inputs: data})
	if err != nil {
		t.Fatal(err)
	}
	// What was submitted was copied.
	data["s"] = 60
	if err := running.Cancel(); err != nil {
		t.Fatal(err)
	}
	if result, err := next.Wait(context.Background()); err != nil || string(result.Value) != `"awake"` {
		t.Fatal(result, err)
	}
}

func TestCloseEndsATaskThatWaits(t *testing.T) {
	library, running, waiting := occupied(t)
	if err := library.Close(); err != nil {
		t.Fatal(err)
	}
	for _, task := range []*skillcache.Task{running, waiting} {
		if _, err := task.Wait(context.Background()); !errors.Is(err, skillcache.ErrCancelled) {
			t.Fatal(err)
		}
	}
}

func TestCloseEndsWhatRunsAndRefusesWhatComes(t *testing.T) {
	library := open(t, nil)
	put(t, library, "sleep", sleep)
	task, err := library.Submit("sleep", skillcache.Data{Inputs: inputs{"s": 60}})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() {
		result, err := library.Run(context.Background(), "sleep", skillcache.Data{Inputs: inputs{"s": 60}})
		if err == nil && result.Outcome != skillcache.Cancelled {
			err = fmt.Errorf("outcome %s", result.Outcome)
		}
		ended <- err
	}()
	time.Sleep(200 * time.Millisecond)
	begin := time.Now()
	if err := library.Close(); err != nil || time.Since(begin) > 20*time.Second {
		t.Fatal(err, time.Since(begin))
	}
	if err := <-ended; err != nil && !errors.Is(err, skillcache.ErrCancelled) && !errors.Is(err, skillcache.ErrClosed) {
		t.Fatal(err)
	}
	if _, err := task.Wait(context.Background()); !errors.Is(err, skillcache.ErrCancelled) {
		t.Fatal(err)
	}
	if _, err := library.Stats(); !errors.Is(err, skillcache.ErrClosed) {
		t.Fatal(err)
	}
	if err := library.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestGoroutinesShareALibraryUntilItIsClosed(t *testing.T) {
	library := open(t, nil)
	put(t, library, "twice", "result = inputs['x'] * 2")
	var group sync.WaitGroup
	for number := range 8 {
		group.Add(1)
		go func() {
			defer group.Done()
			for {
				result, err := library.Run(context.Background(), "twice", skillcache.Data{Inputs: inputs{"x": number}})
				if errors.Is(err, skillcache.ErrClosed) || (err == nil && result.Outcome == skillcache.Cancelled) {
					return
				}
				if err != nil || string(result.Value) != fmt.Sprint(2*number) {
					t.Error(result, err)
					return
				}
			}
		}()
	}
	time.Sleep(300 * time.Millisecond)
	for range 2 {
		group.Add(1)
		go func() {
			defer group.Done()
			if err := library.Close(); err != nil {
				t.Error(err)
			}
		}()
	}
	group.Wait()
}

func TestReportsAndEvents(t *testing.T) {
	library := open(t, nil)
	put(t, library, "one", "result = 1")
	run(t, library, "one", nil)
	run(t, library, "one", nil)
	text, err := library.Stats()
	var stats struct {
		Runs struct{ Total, Cached int }
	}
	if err != nil || json.Unmarshal(text, &stats) != nil || stats.Runs.Total != 2 || stats.Runs.Cached != 1 {
		t.Fatal(string(text), err)
	}
	metrics, err := library.Metrics()
	if err != nil || !strings.HasSuffix(metrics, "# EOF\n") {
		t.Fatal(metrics, err)
	}
	health, err := library.Health()
	if err != nil || !strings.Contains(string(health), `"healthy"`) {
		t.Fatal(string(health), err)
	}
	for _, kind := range []string{"sandbox_level", "skill_put"} {
		event, err := library.NextEvent(context.Background())
		if err != nil || !strings.Contains(string(event), kind) {
			t.Fatal(string(event), err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if event, err := library.NextEvent(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(string(event), err)
	}
	if skillcache.Version() == "" {
		t.Fatal("no version")
	}
}

func TestAFullCacheIsSaid(t *testing.T) {
	library := open(t, skillcache.Options{"cache.execution.max_entries": "1", "cache.prepared.max_entries": "9"})
	put(t, library, "one", "result = 1")
	if alerts, err := library.CheckCaches(0.85); err != nil || len(alerts) != 0 {
		t.Fatal(alerts, err)
	}
	run(t, library, "one", nil)
	expected := skillcache.CacheAlert{
		Cache: "execution", Bound: "entries", Size: 1, MaxSize: 1, Threshold: 0.85,
		Message: "Cache utilization alert: 100.0% exceeds threshold of 85.0% (1/1)",
	}
	if alerts, err := library.CheckCaches(0.85); err != nil || len(alerts) != 1 || alerts[0] != expected {
		t.Fatalf("%+v %v", alerts, err)
	}
	if alerts, err := library.CheckCaches(0); err != nil || len(alerts) != 6 {
		t.Fatalf("%+v %v", alerts, err)
	}
	for _, threshold := range []float64{-0.01, 1.01, math.NaN(), math.Inf(1)} {
		var refused *skillcache.Error
		_, err := library.CheckCaches(threshold)
		if !errors.As(err, &refused) || !errors.Is(err, skillcache.ErrInvalid) || refused.Path != "threshold" {
			t.Fatalf("%v: %+v", threshold, err)
		}
	}
	if err := library.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := library.CheckCaches(1); !errors.Is(err, skillcache.ErrClosed) {
		t.Fatal(err)
	}
}

func TestALibraryIsCheckedAndCopied(t *testing.T) {
	file := filepath.Join(t.TempDir(), "skills.db")
	library, err := skillcache.Open(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	put(t, library, "one", "result = 1")
	if report, err := library.Check("full"); err != nil || !report.OK || len(report.Findings) != 0 {
		t.Fatalf("%+v %v", report, err)
	}
	if _, err := library.Check("slow"); !errors.Is(err, skillcache.ErrInvalid) {
		t.Fatal(err)
	}
	if err := library.Backup(file + ".copy"); err != nil {
		t.Fatal(err)
	}
	if err := library.Backup(file + ".copy"); !errors.Is(err, skillcache.ErrInvalid) {
		t.Fatal(err)
	}
	if err := library.Close(); err != nil {
		t.Fatal(err)
	}
	copied, err := skillcache.Open(file+".copy", skillcache.Options{"store.access": "read_only"})
	if err != nil {
		t.Fatal(err)
	}
	defer copied.Close()
	if skill, err := copied.Get("one", 0); err != nil || skill.Code != "result = 1" {
		t.Fatal(skill, err)
	}
	if _, err := copied.Put(skillcache.Skill{ID: "two", Code: "result = 2"}); !errors.Is(err, skillcache.ErrUnsupported) {
		t.Fatal(err)
	}
}

func TestSkillsGoOutAndComeIn(t *testing.T) {
	library, path := open(t, nil), filepath.Join(t.TempDir(), "skills")
	put(t, library, "one", "result = 1")
	put(t, library, "two", "result = 2")
	written, err := library.Export(path, skillcache.ExportOptions{Format: "markdown", IDs: []string{"one", "nobody"}})
	if err != nil || written.Exported != 1 || len(written.Rejected) != 1 || written.Rejected[0].ID != "nobody" {
		t.Fatalf("%+v %v", written, err)
	}
	none, err := library.Export(path+"2", skillcache.ExportOptions{IDs: []string{}})
	if err != nil || none.Exported != 0 {
		t.Fatalf("%+v %v", none, err)
	}
	if _, err := library.Export(path, skillcache.ExportOptions{Format: "markdown"}); !errors.Is(err, skillcache.ErrInvalid) {
		t.Fatal(err)
	}
	other := open(t, nil)
	expected := skillcache.ImportedSkill{ID: "one", Version: 1, Source: "one/scripts/one.py"}
	read, err := other.Import(path, skillcache.ImportOptions{})
	if err != nil || read.Format != "markdown" || len(read.Imported) != 1 || read.Imported[0] != expected {
		t.Fatalf("%+v %v", read, err)
	}
	if read, err = other.Import(path, skillcache.ImportOptions{OnConflict: "skip"}); err != nil || read.Unchanged != 1 {
		t.Fatalf("%+v %v", read, err)
	}
	var refused *skillcache.Error
	_, err = other.Import(path, skillcache.ImportOptions{OnConflict: "maybe"})
	if !errors.As(err, &refused) || refused.Path != "on_conflict" {
		t.Fatalf("%+v", err)
	}
	if _, err := other.Import("a\x00b", skillcache.ImportOptions{}); !errors.Is(err, skillcache.ErrInvalid) {
		t.Fatal(err)
	}
}

func TestThePolicyRefusesAndInjectionSaysHow(t *testing.T) {
	library := open(t, skillcache.Options{"inject.fallback": "lexical"})
	_, err := library.Put(skillcache.Skill{ID: "evil", Code: "import os\nresult = 1"})
	var refused *skillcache.Error
	if !errors.As(err, &refused) || !errors.Is(err, skillcache.ErrSecurity) || refused.Rule != "import-forbidden" ||
		!strings.Contains(string(refused.Findings), `"severity":"error"`) {
		t.Fatalf("%+v", err)
	}
	report, err := library.Validate("import os")
	if err != nil || !strings.HasPrefix(string(report), `{"valid":false`) {
		t.Fatal(string(report), err)
	}
	data := skillcache.Data{Inputs: inputs{"a": 1}}
	for source, expected := range map[string]skillcache.Script{
		"result = inputs":             {Code: `inputs = {"a": 1}; result = inputs`, Method: "ast"},
		"inputs = {}\nprint inputs\n": {Code: "inputs = {\"a\": 1}\nprint inputs\n", Method: "lexical"},
	} {
		if script, err := library.Inject(source, data); err != nil || script != expected {
			t.Fatalf("%+v %v", script, err)
		}
	}
	if _, err := library.Inject("print inputs", data); !errors.Is(err, skillcache.ErrSyntax) {
		t.Fatal(err)
	}
}
