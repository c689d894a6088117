/* Which digit is it? The bundle of `make demo`, called from C. */
#include "digits.h"

DIGITS_ALIGNED(DIGITS_ARENA_ALIGN) static unsigned char arena[DIGITS_ARENA_SIZE];

/* Takes 8 x 8 pixels from -128 (white) to 127 (black); returns the digit, or -1 when the arena does not fit. */
int classify(const int8_t image[DIGITS_INPUT_ELEMENTS])
{
    digits_model model;
    if (digits_init(&model, arena, sizeof arena) != DIGITS_OK) {
        return -1;
    }

    int8_t *input = digits_input(&model);
    for (unsigned i = 0; i < DIGITS_INPUT_ELEMENTS; i++) {
        input[i] = image[i];
    }
    if (digits_run(&model) != DIGITS_OK) {
        return -1;
    }

    const int8_t *probabilities = digits_output(&model);
    int digit = 0;
    for (int i = 1; i < (int)DIGITS_OUTPUT_ELEMENTS; i++) {
        if (probabilities[i] > probabilities[digit]) {
            digit = i;
        }
    }
    return digit;
}
