# The tests of the C door and of the C++ and Go bindings, all against the installed prefix.

PKG := PKG_CONFIG_PATH=$(PREFIX_DIR)/lib/pkgconfig pkg-config
WARNINGS := -Wall -Wextra -Wpedantic -Werror
RPATH := -Wl,-rpath,$(PREFIX_DIR)/lib
C_TESTS := $(filter-out static_test,$(basename $(notdir $(wildcard bindings/c/tests/*_test.c))))
SANITIZE := -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
GO_ENVIRONMENT = PKG_CONFIG_PATH=$(PREFIX_DIR)/lib/pkgconfig LD_LIBRARY_PATH=$(PREFIX_DIR)/lib GOTOOLCHAIN=local GOFLAGS=-mod=mod
FORMATTED := $(wildcard bindings/c/tests/*.[ch] bindings/c/tests/cmake/*.c bindings/cpp/*.hpp bindings/cpp/tests/*.cpp examples/*.c)

.PHONY: test-c test-cpp test-go test-cmake test-valgrind test-asan lint-c lint-go

test-c: | prefix
	@mkdir -p $(BUILD)/c
	for test in $(C_TESTS); do \
		$(CC) -std=c99 -g $(WARNINGS) bindings/c/tests/$$test.c $$($(PKG) --cflags --libs skillcache) $(RPATH) -pthread \
			-o $(BUILD)/c/$$test; \
		$(BUILD)/c/$$test; \
	done
	$(CC) -std=c99 -g $(WARNINGS) bindings/c/tests/static_test.c $$($(PKG) --cflags skillcache) $(PREFIX_DIR)/lib/libskillcache.a \
		-lgcc_s -lm -o $(BUILD)/c/static_test
	$(BUILD)/c/static_test
	echo '#include <skillcache.h>' | $(CXX) -std=c++17 $(WARNINGS) $$($(PKG) --cflags skillcache) -x c++ -fsyntax-only -

test-asan: | prefix
	@mkdir -p $(BUILD)/asan
	for test in $(C_TESTS); do \
		$(CC) -std=c99 $(SANITIZE) $(WARNINGS) bindings/c/tests/$$test.c $$($(PKG) --cflags --libs skillcache) $(RPATH) -pthread \
			-o $(BUILD)/asan/$$test; \
		$(BUILD)/asan/$$test; \
	done

# Children are Python's business; what is possibly lost are threads' stacks that live until the process ends.
test-valgrind: test-c
	for test in door_test arguments_test sigpipe_test threads_test; do \
		SKC_TEST_LEVEL=process-only valgrind --quiet --error-exitcode=9 --leak-check=full --errors-for-leak-kinds=definite --show-leak-kinds=definite \
			--trace-children=no --child-silent-after-fork=yes $(BUILD)/c/$$test; \
	done

test-cmake: | prefix
	rm -rf $(BUILD)/cmake
	cmake -S bindings/c/tests/cmake -B $(BUILD)/cmake -DCMAKE_PREFIX_PATH=$(PREFIX_DIR) > /dev/null
	cmake --build $(BUILD)/cmake > /dev/null
	$(BUILD)/cmake/consumer_shared
	$(BUILD)/cmake/consumer_static

test-cpp: | prefix
	@mkdir -p $(BUILD)/cpp
	$(CXX) -std=c++17 -g $(WARNINGS) bindings/cpp/tests/skillcache_test.cpp $$($(PKG) --cflags --libs skillcache) $(RPATH) -pthread \
		-o $(BUILD)/cpp/skillcache_test
	$(BUILD)/cpp/skillcache_test

test-go: | prefix
	cd bindings/go && $(GO_ENVIRONMENT) $(GO) test -timeout 1h ./...

lint-c:
	clang-format --dry-run --Werror $(FORMATTED)

lint-go: | prefix
	test -z "$$($$($(GO) env GOROOT)/bin/gofmt -l bindings/go)"
	cd bindings/go && $(GO_ENVIRONMENT) $(GO) vet ./...
