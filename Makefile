# A thin front for CMake; `make help` lists the targets. The tree's own files are in CMakeLists.txt.
.DEFAULT_GOAL := build
.PHONY: build run train test bench install symbols format check-format clean help
.NOTPARALLEL:

PREFIX ?= /usr/local
C_FILES = $(shell git ls-files '*.c' '*.h')

build: ## the library and the examples, into build/ (the default)
	@scripts/setup build
	@test -f build/CMakeCache.txt || cmake --preset release
	@cmake --build build

run: build ## the article's program, its layer over a photograph, a kernel learnt from one; pictures into out/
	@scripts/run

train: build ## a small CNN on Fashion-MNIST, to 87 % of the test pictures; into out/ (some minutes; Ctrl-C keeps the state)
	@scripts/setup train
	@mkdir -p out && build/examples/train out

test: ## every test, with all of its own set-up; KINDS="unit pytest" picks some
	@scripts/setup test
	@scripts/test $(KINDS)

bench: build ## Fonio beside its peers, with all of its own set-up; ARGS="--quick --layers lenet" picks
	@scripts/setup bench
	@scripts/bench $(ARGS)

install: build ## installs under PREFIX (/usr/local), below DESTDIR where that is given
	@cmake --install build --prefix $(PREFIX)

symbols: build ## writes down anew what libfonio.so exports
	@scripts/symbols

format: ## formats the C sources in place
	@clang-format -i $(C_FILES)

check-format: ## fails where `make format` would change something
	@clang-format --dry-run -Werror $(C_FILES)

clean: ## removes everything that was built
	@rm -rf build build-*

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | awk -F '\t' '{ printf "make %-14s%s\n", $$1, $$2 }'
