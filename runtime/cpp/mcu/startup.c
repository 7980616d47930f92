/* The start of a program on a Cortex-M: the stack, the memory, the floating-point unit, then main. The file of the
 * manufacturer of a device replaces it, with the other interrupts. */
#include <stdbool.h>
#include <stdint.h>

extern uint32_t __stack_top, __data_start, __data_end, __data_load, __bss_start, __bss_end; /* link.ld */
int main(void);
void reset(void);

static void stop(void) {
  for (;;) {
  }
}

/* Whether main runs again after this result; only the golden test has it. */
bool runs_again(int status) __attribute__((weak));

void reset(void) {
  *(volatile uint32_t*)0xE000ED88 |= 0xFu << 20; /* CPACR: the floating-point unit, and MVE */
  __asm volatile("dsb\n isb" ::: "memory");
  const uint32_t* from = &__data_load;
  for (uint32_t* to = &__data_start; to < &__data_end; ++to) *to = *from++;
  for (uint32_t* to = &__bss_start; to < &__bss_end; ++to) *to = 0;
  int status = main();
  while (runs_again && runs_again(status)) status = main();
  stop();
}

/* Interrupts beyond the first 16 belong to the device. */
__attribute__((section(".vectors"), used)) static void (*const vectors[16])(void) = {
    (void (*)(void))&__stack_top, reset, stop, stop, stop, stop, stop, stop, 0, 0, 0, stop, stop, 0, stop, stop};
