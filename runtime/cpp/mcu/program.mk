# make        the program, build/firmware.elf, and the bytes that it takes
# make test   the golden test under qemu
CPU := @OPTIONS@
MACHINE := @MACHINE@
CROSS ?= arm-none-eabi-
BUILD ?= build
QEMU ?= qemu-system-arm

# Without it, the kernels have what any network needs.
KINDS ?= -DMULTIRES_ONE_NETWORK

COMMON := $(CPU) -mthumb -mfloat-abi=hard -mfp16-format=ieee -Wall -Wextra -Wno-psabi -ffunction-sections -fdata-sections
# The parts of -ffast-math that change no result; see docs/engine.md of multires-edge.
COMMON += -fno-math-errno -fno-trapping-math -ffp-contract=fast -I. -Iengine -Itest
CFLAGS := -std=c11 -Os $(COMMON)
# Loops that fill the registers: scheduling before they are allocated would put values on the stack.
KERNELS := -O3 -fno-schedule-insns
CXXFLAGS := -std=c++17 -fno-exceptions -fno-rtti -fno-threadsafe-statics -DNDEBUG $(KINDS) $(COMMON)
# Without a library of system calls: a program that allocated memory would not link.
LDFLAGS := $(CPU) -mthumb -mfloat-abi=hard --specs=nano.specs -nostartfiles -T link.ld -Wl,--gc-sections

shared := $(patsubst %,$(BUILD)/%.o,$(wildcard engine/*.cpp) network.cpp startup.c main.c)

all: $(BUILD)/firmware.elf
	$(CROSS)size $<
test: $(BUILD)/golden.elf
	$(QEMU) -M $(MACHINE) -icount shift=0 -nographic -semihosting-config enable=on,target=native -kernel $<
.PHONY: all test

$(BUILD)/firmware.elf: $(shared) $(BUILD)/board.c.o link.ld
	$(CROSS)g++ $(LDFLAGS) $(filter %.o,$^) -o $@
$(BUILD)/golden.elf: $(shared) $(patsubst %,$(BUILD)/%.o,$(wildcard test/*.c test/*.cpp)) link.ld
	$(CROSS)g++ $(LDFLAGS) $(filter %.o,$^) -lm -o $@
$(BUILD)/%.cpp.o: %.cpp network_kinds.h $(wildcard engine/*.h)
	@mkdir -p $(@D)
	$(CROSS)g++ $(CXXFLAGS) $(if $(findstring kernels,$<),$(KERNELS),-Os) -c $< -o $@
$(BUILD)/%.c.o: %.c $(wildcard *.h test/*.h)
	@mkdir -p $(@D)
	$(CROSS)gcc $(CFLAGS) -c $< -o $@
