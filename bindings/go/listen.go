package skillcache

/*
#include <skillcache.h>
#include <stdlib.h>

void skcGoLine(void *user_data, char *json, size_t len);
void skcGoDrop(void *user_data);

static void deliver(void *user_data, const char *json, size_t len) { skcGoLine(user_data, (char *)json, len); }

static skc_status listen_to_events(skc_config *config, void *user_data, skc_error **err) {
    return skc_config_on_event(config, deliver, user_data, skcGoDrop, err);
}

static skc_status listen_to_log(skc_config *config, void *user_data, skc_error **err) {
    return skc_config_on_log(config, deliver, user_data, skcGoDrop, err);
}
*/
import "C"

import (
	"encoding/json"
	"runtime/cgo"
	"unsafe"
)

// Listeners are called on threads of the library, each one call at a time; nil ones are not. They may call anything but Close of the
// library that they came from, which waits for them.
type Listeners struct {
	// OnEvent gets every event as JSON; NextEvent is refused then.
	OnEvent func(event json.RawMessage)
	// OnLog gets what the library says while it works, as JSON, as far as the option monitor.log_level says.
	OnLog func(line json.RawMessage)
}

func (l Listeners) addTo(config *C.skc_config) error {
	add := func(listener func(json.RawMessage), listen func(userData unsafe.Pointer, left **C.skc_error) C.skc_status) error {
		if listener == nil {
			return nil
		}
		// A handle is a number; C gets the address of memory of its own that holds it.
		userData := C.malloc(C.size_t(unsafe.Sizeof(cgo.Handle(0))))
		*(*cgo.Handle)(userData) = cgo.NewHandle(listener)
		var left *C.skc_error
		status := listen(userData, &left)
		err := failure(status, left)
		if err != nil {
			skcGoDrop(userData)
		}
		return err
	}
	if err := add(l.OnEvent, func(userData unsafe.Pointer, left **C.skc_error) C.skc_status {
		return C.listen_to_events(config, userData, left)
	}); err != nil {
		return err
	}
	return add(l.OnLog, func(userData unsafe.Pointer, left **C.skc_error) C.skc_status {
		return C.listen_to_log(config, userData, left)
	})
}
