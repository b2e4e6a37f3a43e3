/* Floating-point numbers of 16 and 8 bits, to and from float: rounded to the nearest, ties to even, with torch's bits.
 * Only integers are worked on when rounding, so that neither the rounding mode nor flush-to-zero of the host matters.
 */
#ifndef TENSOR_SMALL_FLOAT_H
#define TENSOR_SMALL_FLOAT_H

#include <stdint.h>
#include <string.h>

static inline uint32_t float_bits(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

static inline float float_of_bits(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

/* Drops the last `count` (1 to 31) bits, rounding to the nearest, ties to even. */
static inline uint32_t round_off(uint32_t bits, uint32_t count) {
  return (bits + ((1u << (count - 1)) - 1) + ((bits >> count) & 1)) >> count;
}

/* The finite float of `magnitude` (no sign) with `mantissa` bits and a smallest normal exponent of `least`; too large a
 * number comes out larger than the format's largest. */
static inline uint32_t shrink(uint32_t magnitude, uint32_t mantissa, uint32_t least) {
  uint32_t exponent = magnitude >> 23;
  if (exponent >= least) return round_off(magnitude - ((least - 1) << 23), 23 - mantissa);
  uint32_t shift = least - exponent + (23 - mantissa);
  return shift > 24 + 1 ? 0 : round_off((magnitude & 0x7fffff) | 0x800000, shift);
}

/* The reverse: a number with its exponent and mantissa bits in place, as float. */
static inline float grow(uint32_t magnitude, uint32_t mantissa, uint32_t least) {
  if (magnitude >> mantissa) return float_of_bits((magnitude << (23 - mantissa)) + ((least - 1) << 23));
  return (float)magnitude * float_of_bits((least - mantissa) << 23);
}

static inline float with_sign(float magnitude, uint32_t sign) {
  return float_of_bits(float_bits(magnitude) | sign << 31);
}

/* IEEE binary16: 5 exponent bits from 2^-14, 10 mantissa bits. */
static inline uint16_t half_from_float(float value) {
  uint32_t bits = float_bits(value), magnitude = bits & 0x7fffffff, sign = bits >> 31 << 15;
  if (magnitude > 0x7f800000) return (uint16_t)(sign | 0x7e00 | (magnitude >> 13 & 0x3ff));
  if (magnitude >= 0x47800000) return (uint16_t)(sign | 0x7c00);
  return (uint16_t)(sign | shrink(magnitude, 10, 127 - 14));
}

static inline float half_to_float(uint16_t half) {
  uint32_t magnitude = half & 0x7fff;
  if (magnitude == 0x7c00) return with_sign(float_of_bits(0x7f800000), half >> 15);
  if (magnitude > 0x7c00) return with_sign(float_of_bits(0x7fc00000 | (magnitude & 0x3ff) << 13), half >> 15);
  return with_sign(grow(magnitude, 10, 127 - 14), half >> 15);
}

/* bfloat16: the upper half of a float. */
static inline uint16_t bfloat16_from_float(float value) {
  uint32_t bits = float_bits(value);
  if ((bits & 0x7fffffff) > 0x7f800000) return 0x7fc0;
  return (uint16_t)round_off(bits, 16);
}

static inline float bfloat16_to_float(uint16_t bits) {
  return float_of_bits((uint32_t)bits << 16);
}

/* 4 exponent bits from 2^-6, 3 mantissa bits, no infinity: what is too large becomes the largest, 448. */
static inline uint8_t float8_e4m3fn_from_float(float value) {
  uint32_t bits = float_bits(value), magnitude = bits & 0x7fffffff, sign = bits >> 31 << 7;
  if (magnitude > 0x7f800000) return (uint8_t)(sign | 0x7f);
  if (magnitude > 0x43e00000) return (uint8_t)(sign | 0x7e);
  return (uint8_t)(sign | shrink(magnitude, 3, 127 - 6));
}

static inline float float8_e4m3fn_to_float(uint8_t bits) {
  uint32_t magnitude = bits & 0x7f;
  return with_sign(magnitude == 0x7f ? float_of_bits(0x7ff00000) : grow(magnitude, 3, 127 - 6), bits >> 7);
}

/* 5 exponent bits from 2^-14, 2 mantissa bits, with infinity. */
static inline uint8_t float8_e5m2_from_float(float value) {
  uint32_t bits = float_bits(value), magnitude = bits & 0x7fffffff, sign = bits >> 31 << 7;
  if (magnitude > 0x7f800000) return (uint8_t)(sign | 0x7f);
  if (magnitude >= 0x47800000) return (uint8_t)(sign | 0x7c);
  return (uint8_t)(sign | shrink(magnitude, 2, 127 - 14));
}

static inline float float8_e5m2_to_float(uint8_t bits) {
  uint32_t magnitude = bits & 0x7f;
  if (magnitude == 0x7c) return with_sign(float_of_bits(0x7f800000), bits >> 7);
  if (magnitude > 0x7c) return with_sign(float_of_bits(0x7fc00000 | (magnitude & 3) << 21), bits >> 7);
  return with_sign(grow(magnitude, 2, 127 - 14), bits >> 7);
}

#endif
