package skillcache

/*
#include <skillcache.h>
*/
import "C"

import (
	"context"
	"runtime"
	"sync"
	"time"
)

// Task is a run in the background. Any goroutine may use it. It outlives the library: waiting then gives ErrCancelled.
type Task struct {
	mutex sync.RWMutex
	task  *C.skc_task
}

// slice is how long a wait stays inside the library before it looks at its context.
const slice = 50 * time.Millisecond

func newTask(task *C.skc_task) *Task {
	owned := &Task{task: task}
	runtime.SetFinalizer(owned, (*Task).Close)
	return owned
}

// Close lets go of the task; a run that has not finished goes on unobserved. It may be called again.
func (t *Task) Close() {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	C.skc_task_free(t.task)
	t.task = nil
	runtime.SetFinalizer(t, nil)
}

// Done says whether the run has finished.
func (t *Task) Done() (bool, error) {
	t.mutex.RLock()
	defer t.mutex.RUnlock()
	if t.task == nil {
		return false, closedTask()
	}
	status := C.skc_task_poll(t.task)
	if status == C.SKC_PENDING {
		return false, nil
	}
	return status == C.SKC_OK, failure(status, nil)
}

// FD is readable once the run has finished, for a poller of the host's own; -1 for a closed task. The task owns it: it is not
// to be read or closed, and not to be used after Close.
func (t *Task) FD() int {
	t.mutex.RLock()
	defer t.mutex.RUnlock()
	if t.task == nil {
		return -1
	}
	return int(C.skc_task_fd(t.task))
}

// Wait gives the result as soon as there is one, a new copy each time. When the context ends first, it gives the
// context's error, and the run goes on.
func (t *Task) Wait(ctx context.Context) (*Result, error) {
	for {
		result, status, err := t.waitSlice()
		if status != C.SKC_E_TIMEOUT {
			return result, err
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
}

func (t *Task) waitSlice() (*Result, C.skc_status, error) {
	t.mutex.RLock()
	defer t.mutex.RUnlock()
	if t.task == nil {
		return nil, C.SKC_E_CLOSED, closedTask()
	}
	var result *C.skc_result
	var left *C.skc_error
	status := C.skc_task_wait(t.task, C.int64_t(slice/time.Millisecond), &result, &left)
	if err := failure(status, left); err != nil {
		return nil, status, err
	}
	copied, err := takeResult(result)
	return copied, status, err
}

// Cancel ends the run, a waiting one at once: its result has the outcome Cancelled. A finished task keeps its result.
func (t *Task) Cancel() error {
	t.mutex.RLock()
	defer t.mutex.RUnlock()
	if t.task == nil {
		return closedTask()
	}
	return failure(C.skc_task_cancel(t.task), nil)
}

func closedTask() error { return newError(C.SKC_E_CLOSED, "the task is closed") }
