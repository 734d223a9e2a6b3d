# The same story in three languages, and what keeps it the same.

DEMO_LINK = -I$(PREFIX_DIR)/include -L$(PREFIX_DIR)/lib -lskillcache -Wl,-rpath,$(PREFIX_DIR)/lib
C_FLAGS = -std=c99 -O2 -Wall -Wextra -Wpedantic -Werror
PYTHON_DEMO = PYTHONPATH=bindings/python SKILLCACHE_LIBRARY=$(PREFIX_DIR)/lib/libskillcache.so $(PYTHON)

.PHONY: demo-c demo-python demo-rust test-examples

demo-c: | prefix
	@mkdir -p $(BUILD)/examples
	$(CC) $(C_FLAGS) examples/weather.c $(DEMO_LINK) -o $(BUILD)/examples/weather
	$(BUILD)/examples/weather examples

demo-python: | prefix
	$(PYTHON_DEMO) examples/weather.py

demo-rust: | prefix
	$(CARGO) run --release --locked --quiet --example weather -- examples

test-examples: | prefix
	@mkdir -p $(BUILD)/examples
	$(MAKE) --silent demo-c > $(BUILD)/examples/c.txt
	$(MAKE) --silent demo-python > $(BUILD)/examples/python.txt
	$(MAKE) --silent demo-rust > $(BUILD)/examples/rust.txt
	PKG_CONFIG_PATH=$(PREFIX_DIR)/lib/pkgconfig; export PKG_CONFIG_PATH; \
	$(CC) -std=c99 -Wall -Wextra -Wpedantic -Werror examples/quickstart.c $$(pkg-config --cflags --libs skillcache) \
		-Wl,-rpath,$(PREFIX_DIR)/lib -o $(BUILD)/examples/quickstart
	$(BUILD)/examples/quickstart > $(BUILD)/examples/quickstart-c.txt
	$(PYTHON_DEMO) examples/quickstart.py > $(BUILD)/examples/quickstart-python.txt
	$(PYTHON) examples/compare.py $(BUILD)/examples
