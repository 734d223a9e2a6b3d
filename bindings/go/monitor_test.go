package skillcache

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"testing"
)

func TestMonitoring(t *testing.T) {
	library, err := Open(":memory:", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer library.Close()
	if _, err := library.Put(Skill{ID: "one", Code: "result = 1"}); err != nil {
		t.Fatal(err)
	}
	const trace = "0af7651916cd43dd8448eb211c80319c"
	given, err := library.Run(context.Background(), "one", Data{}, RunOptions{Trace: "00-" + trace + "-b7ad6b7169203331-01"})
	if err != nil || given.TraceID != trace {
		t.Fatal(given, err)
	}
	own, err := library.Run(context.Background(), "one", Data{})
	if err != nil || len(own.TraceID) != 32 || own.TraceID == trace {
		t.Fatal(own, err)
	}
	days, err := library.Outcomes("one")
	if err != nil || len(days) != 1 || days[0].Outcome != Success || days[0].Count != 2 {
		t.Fatal(days, err)
	}
	if _, err := library.Outcomes("two"); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	if err := library.SetState("one", "quarantined"); err != nil {
		t.Fatal(err)
	}
	found, err := library.Recommendations()
	if err != nil || len(found) != 1 || found[0].Rule != "quarantine" || found[0].Sample != 1 || found[0].Remedy == "" {
		t.Fatal(found, err)
	}
	text, err := library.ReportMemory()
	var report struct {
		Status string  `json:"status"`
		RSS    float64 `json:"rss_mb"`
	}
	if err != nil || json.Unmarshal(text, &report) != nil || report.Status != "ok" || report.RSS < 1 {
		t.Fatal(string(text), err)
	}
	text, err = library.History()
	var history struct {
		Interval uint64            `json:"interval_s"`
		Samples  []json.RawMessage `json:"samples"`
	}
	if err != nil || json.Unmarshal(text, &history) != nil || history.Interval != 10 {
		t.Fatal(string(text), err)
	}
}

func TestListeners(t *testing.T) {
	var mutex sync.Mutex
	var kinds, levels []string
	hear := func(into *[]string, member string) func(json.RawMessage) {
		return func(line json.RawMessage) {
			var members map[string]any
			if err := json.Unmarshal(line, &members); err != nil {
				t.Error(err)
			}
			mutex.Lock()
			defer mutex.Unlock()
			word, _ := members[member].(string)
			*into = append(*into, word)
		}
	}
	listeners := Listeners{OnEvent: hear(&kinds, "kind"), OnLog: hear(&levels, "level")}
	library, err := OpenWith(":memory:", Options{"monitor.log_level": "debug"}, listeners)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := library.Put(Skill{ID: "one", Code: "result = 1"}); err != nil {
		t.Fatal(err)
	}
	if _, err := library.Run(context.Background(), "one", Data{}); err != nil {
		t.Fatal(err)
	}
	if _, err := library.NextEvent(context.Background()); !errors.Is(err, ErrInvalid) {
		t.Fatal("events go to the listener, and to it alone:", err)
	}
	if fd, err := library.EventFD(); fd != -1 || err != nil {
		t.Fatal(fd, err)
	}
	// Closing hands over what waits.
	if err := library.Close(); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(kinds, []string{"sandbox_level", "skill_put"}) || !slices.Contains(levels, "debug") {
		t.Fatal(kinds, levels)
	}
	if _, err := OpenWith("/nowhere/skills.db", nil, listeners); err == nil {
		t.Fatal("there is no such folder")
	}
}
