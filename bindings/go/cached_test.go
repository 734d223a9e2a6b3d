package skillcache_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"skillcache"
)

func putKept(t *testing.T, library *skillcache.Library, code string) {
	t.Helper()
	if _, err := library.Put(skillcache.Skill{ID: "s", Code: code, Cache: "yes"}); err != nil {
		t.Fatal(err)
	}
}

type numbers struct {
	Runs   struct{ Total, Cached, Executed int }
	Caches struct {
		Execution struct {
			Size, Hits, Misses, Coalesced, Refusals, Expirations, Evictions int
			Bytes                                                           int
			MaxBytes                                                        int `json:"max_bytes"`
			Policy                                                          string
		}
	}
}

func count(t *testing.T, library *skillcache.Library) (stats numbers) {
	t.Helper()
	text, err := library.Stats()
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &stats); err != nil {
		t.Fatal(err)
	}
	return stats
}

// untilMisses comes back when so many calls have looked for a result in vain, and had time to find each other.
func untilMisses(t *testing.T, library *skillcache.Library, wanted int) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for count(t, library).Caches.Execution.Misses < wanted {
		if time.Now().After(deadline) {
			t.Fatalf("%d misses did not come", wanted)
		}
		time.Sleep(2 * time.Millisecond)
	}
	time.Sleep(200 * time.Millisecond)
}

// A gate holds runs up until it is opened: they look for a file in the folder of packages, all of the host that they can see.
type gate string

func (g gate) open(t *testing.T) {
	t.Helper()
	if err := os.WriteFile(string(g), nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

// held gives a library with a skill that waits at a gate, and is kept all the same.
func held(t *testing.T) (*skillcache.Library, gate) {
	t.Helper()
	folder := t.TempDir()
	gate := gate(filepath.Join(folder, "open"))
	library := open(t, skillcache.Options{
		"policy.mode": "off", "python.site_packages": folder, "sandbox.timeout_ms": "300000",
	})
	putKept(t, library, fmt.Sprintf(
		"import os, time\nwhile not os.path.exists(%q): time.sleep(0.01)\nresult = inputs.get('v', 'awake')", string(gate)))
	return library, gate
}

type ended struct {
	result *skillcache.Result
	err    error
}

// begin runs the skill on a goroutine of its own.
func begin(library *skillcache.Library, data inputs, options skillcache.RunOptions) <-chan ended {
	end := make(chan ended, 1)
	go func() {
		result, err := library.Run(context.Background(), "s", skillcache.Data{Inputs: data}, options)
		end <- ended{result, err}
	}()
	return end
}

// expect waits for the end of a run and says whether memory answered.
func expect(t *testing.T, end <-chan ended, outcome, value string) bool {
	t.Helper()
	got := <-end
	if got.err != nil || got.result.Outcome != outcome || string(got.result.Value) != value {
		t.Fatalf("%+v %v", got.result, got.err)
	}
	return got.result.Cached
}

func TestEqualDataAreOneRun(t *testing.T) {
	library := open(t, nil)
	put(t, library, "s", "result = [inputs, context]")
	cached := func(data any) bool {
		t.Helper()
		result, err := library.Run(context.Background(), "s", skillcache.Data{Inputs: data, Context: inputs{"c": true}})
		if err != nil || result.Outcome != skillcache.Success {
			t.Fatalf("%+v %v", result, err)
		}
		return result.Cached
	}
	for index, equal := range []any{
		inputs{"a": 1.5, "b": []any{1, "é"}},
		struct {
			A float64 `json:"a"`
			B [2]any  `json:"b"`
		}{1.5, [2]any{1, "é"}},
		json.RawMessage(`{"a":1.5,"b":[1,"é"]}`),
		json.RawMessage(` { "a" : 1.50 , "b" : [ 1, "\u00e9" ] } `),
		json.RawMessage(`{"\u0061":15e-1,"b":[1,"\u00e9"]}`),
	} {
		if cached(equal) != (index > 0) || !cached(equal) {
			t.Fatalf("%v", equal)
		}
	}
	for _, different := range []any{
		json.RawMessage(`{"a":1}`), json.RawMessage(`{"a":1.0}`), json.RawMessage(`{"a":"1"}`), json.RawMessage(`{"a":true}`),
		json.RawMessage(`{"a":1,"b":2}`), json.RawMessage(`{"b":2,"a":1}`), nil,
	} {
		if cached(different) || !cached(different) {
			t.Fatalf("%v", different)
		}
	}
}

func TestEachCacheModeReadsAndKeepsWhatItSays(t *testing.T) {
	library := open(t, nil)
	put(t, library, "s", "import time\nresult = time.time_ns()")
	for index, step := range []struct {
		mode   string
		cached bool
	}{
		{"", false}, {"auto", false}, {"no", false}, {"yes", false}, {"yes", true}, {"required", true}, {"no", false},
		{"refresh", false}, {"auto", false}, {"required", true},
	} {
		if result := run(t, library, "s", nil, skillcache.RunOptions{Cache: step.mode}); result.Cached != step.cached {
			t.Fatalf("step %d: %+v", index, result)
		}
	}
}

func TestRequiredSaysWhyAResultCannotBeKept(t *testing.T) {
	library := open(t, skillcache.Options{"cache.execution.max_mb": "1"})
	put(t, library, "s", "result = 'x' * 300000")
	required := skillcache.RunOptions{Cache: "required"}
	_, err := library.Run(context.Background(), "s", skillcache.Data{}, required)
	if !errors.Is(err, skillcache.ErrCacheOverflow) || !strings.Contains(err.Error(), "cache.execution.max_mb") {
		t.Fatal(err)
	}
	for range 2 {
		if result := run(t, library, "s", nil, skillcache.RunOptions{Cache: "yes"}); result.Cached || len(result.Value) != 300_002 {
			t.Fatalf("%+v", result)
		}
	}
	if cache := count(t, library).Caches.Execution; cache.Refusals != 3 || cache.Size != 0 || cache.MaxBytes != 1<<20 {
		t.Fatalf("%+v", cache)
	}
	if _, err := library.Put(skillcache.Skill{ID: "s", Code: "result = 1", More: map[string]string{"ttl_s": "0"}}); err != nil {
		t.Fatal(err)
	}
	_, err = library.Run(context.Background(), "s", skillcache.Data{}, required)
	if !errors.Is(err, skillcache.ErrCacheOverflow) || !strings.Contains(err.Error(), "time to live") {
		t.Fatal(err)
	}
}

func TestAResultExpires(t *testing.T) {
	library := open(t, nil)
	put(t, library, "s", "result = 1")
	run(t, library, "s", nil, skillcache.RunOptions{TTLSeconds: 0.05})
	// The kernel turns its coarse clock at ticks, which a virtual machine may have to wait for.
	time.Sleep(time.Second)
	if run(t, library, "s", nil).Cached || !run(t, library, "s", nil).Cached {
		t.Fatal("it lives no longer and no shorter than it was said")
	}
	if cache := count(t, library).Caches.Execution; cache.Expirations != 1 || cache.Size != 1 {
		t.Fatalf("%+v", cache)
	}
}

func TestWhatAHitGaveIsTheCallers(t *testing.T) {
	library := open(t, nil)
	put(t, library, "s", "print('said')\nresult = [1, 2]")
	run(t, library, "s", nil)
	hit := run(t, library, "s", nil)
	clear(hit.Value)
	clear(hit.Stdout)
	if later := run(t, library, "s", nil); !later.Cached || string(later.Value) != "[1,2]" || string(later.Stdout) != "said\n" {
		t.Fatalf("%+v", later)
	}
}

func TestOfManyWhoAskAtOnceOneRuns(t *testing.T) {
	const goroutines = 16
	library, gate := held(t)
	var group sync.WaitGroup
	results := make(chan *skillcache.Result, goroutines)
	for range goroutines {
		group.Add(1)
		go func() {
			defer group.Done()
			result, err := library.Run(context.Background(), "s", skillcache.Data{Inputs: inputs{"v": 1.5}})
			if err != nil {
				t.Error(err)
				return
			}
			results <- result
		}()
	}
	untilMisses(t, library, goroutines)
	gate.open(t)
	group.Wait()
	close(results)
	executed := 0
	for result := range results {
		if string(result.Value) != "1.5" {
			t.Fatalf("%+v", result)
		}
		if !result.Cached {
			executed++
		}
	}
	stats := count(t, library)
	if executed != 1 || stats.Runs.Executed != 1 || stats.Runs.Cached != 15 || stats.Caches.Execution.Coalesced != 15 {
		t.Fatalf("%d %+v", executed, stats)
	}
}

func TestANewVersionIsWhatThoseWhoWaitGet(t *testing.T) {
	library, gate := held(t)
	leader := begin(library, nil, skillcache.RunOptions{})
	untilMisses(t, library, 1)
	one, other := begin(library, nil, skillcache.RunOptions{}), begin(library, nil, skillcache.RunOptions{})
	untilMisses(t, library, 3)
	putKept(t, library, "import time\ntime.sleep(0.2)\nresult = 'new'")
	if expect(t, one, skillcache.Success, `"new"`) == expect(t, other, skillcache.Success, `"new"`) {
		t.Fatal("one of them runs, the other is given its answer")
	}
	gate.open(t)
	if expect(t, leader, skillcache.Success, `"awake"`) || count(t, library).Caches.Execution.Size != 1 {
		t.Fatal("the old version's answer is its leader's alone")
	}
}

func TestWhatWasBegunBeforeTheCacheWasEmptiedIsNotKept(t *testing.T) {
	library, gate := held(t)
	leader := begin(library, nil, skillcache.RunOptions{})
	untilMisses(t, library, 1)
	if err := library.Clear("execution"); err != nil {
		t.Fatal(err)
	}
	gate.open(t)
	if expect(t, leader, skillcache.Success, `"awake"`) || count(t, library).Caches.Execution.Size != 0 {
		t.Fatal("it is kept")
	}
}

func TestWhoWaitsForARunThatFailsRuns(t *testing.T) {
	library, gate := held(t)
	leader := begin(library, nil, skillcache.RunOptions{TimeoutMS: 700})
	untilMisses(t, library, 1)
	waiter := begin(library, nil, skillcache.RunOptions{})
	untilMisses(t, library, 2)
	expect(t, leader, skillcache.TimedOut, "")
	gate.open(t)
	if expect(t, waiter, skillcache.Success, `"awake"`) || count(t, library).Runs.Executed != 2 {
		t.Fatal("it did not run")
	}
}

func TestWhoWaitsCanBeCancelledAndHasATimeOfItsOwn(t *testing.T) {
	library, gate := held(t)
	leader := begin(library, nil, skillcache.RunOptions{})
	untilMisses(t, library, 1)
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if _, err := library.Run(ctx, "s", skillcache.Data{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	looked := count(t, library).Caches.Execution.Misses
	task, err := library.Submit("s", skillcache.Data{})
	if err != nil {
		t.Fatal(err)
	}
	untilMisses(t, library, looked+1)
	if err := task.Cancel(); err != nil {
		t.Fatal(err)
	}
	// It comes back although the gate stays closed.
	result, err := task.Wait(context.Background())
	if err != nil || result.Outcome != skillcache.Cancelled {
		t.Fatalf("%+v %v", result, err)
	}
	result = run(t, library, "s", nil, skillcache.RunOptions{TimeoutMS: 100})
	if result.Outcome != skillcache.TimedOut || !strings.Contains(result.Failure.Message, "waited") {
		t.Fatalf("%+v", result)
	}
	gate.open(t)
	if expect(t, leader, skillcache.Success, `"awake"`) || !run(t, library, "s", nil).Cached {
		t.Fatal("the one that was waited for went on")
	}
}

func TestCloseEndsWhoRunsAndWhoWaits(t *testing.T) {
	library, _ := held(t)
	var ends []<-chan ended
	for range 3 {
		ends = append(ends, begin(library, nil, skillcache.RunOptions{}))
	}
	untilMisses(t, library, 3)
	closing := time.Now()
	if err := library.Close(); err != nil || time.Since(closing) > 200*time.Second {
		t.Fatal(err, time.Since(closing))
	}
	for _, end := range ends {
		if expect(t, end, skillcache.Cancelled, "") {
			t.Fatal("memory answered")
		}
	}
}
