/* Floating-point numbers of 16 and 8 bits, to and from float: rounded to the nearest, ties to even, with torch's bits.
 * Every case is worked out for every number and then chosen from with masks, without a branch, so that compilers make
 * vector code of loops over it. */
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

/* `then` where number > limit, both below 2^31; elsewhere `otherwise`. */
static inline uint32_t if_above(uint32_t number, uint32_t limit, uint32_t then, uint32_t otherwise) {
  uint32_t mask = (uint32_t)((int32_t)(limit - number) >> 31);
  return (then & mask) | (otherwise & ~mask);
}

/* The finite float of `magnitude` (no sign) with `mantissa` bits and a smallest normal exponent of `least`; too large a
 * number comes out larger than the format's largest. */
static inline uint32_t shrink(uint32_t magnitude, uint32_t mantissa, uint32_t least) {
  uint32_t normal = round_off(magnitude - ((least - 1) << 23), 23 - mantissa);
  /* Below the normal numbers the float addition rounds: beside this number the last bit is worth as much as there. */
  uint32_t beside = (least + 23 - mantissa) << 23;
  uint32_t subnormal = float_bits(float_of_bits(magnitude) + float_of_bits(beside)) - beside;
  return if_above(least << 23, magnitude, subnormal, normal);
}

/* The reverse: a number with its exponent and mantissa bits in place, as the bits of a float. */
static inline uint32_t grow(uint32_t magnitude, uint32_t mantissa, uint32_t least) {
  uint32_t normal = (magnitude << (23 - mantissa)) + ((least - 1) << 23);
  uint32_t subnormal = float_bits((float)(int32_t)magnitude * float_of_bits((least - mantissa) << 23));
  return if_above(1u << mantissa, magnitude, subnormal, normal);
}

/* IEEE binary16: 5 exponent bits from 2^-14, 10 mantissa bits. */
static inline uint16_t half_from_float(float value) {
  uint32_t bits = float_bits(value), magnitude = bits & 0x7fffffff;
  uint32_t half = if_above(magnitude, 0x477fffff, 0x7c00, shrink(magnitude, 10, 127 - 14));
  half = if_above(magnitude, 0x7f800000, 0x7e00 | (magnitude >> 13 & 0x3ff), half);
  return (uint16_t)((bits >> 16 & 0x8000) | half);
}

static inline float half_to_float(uint16_t half) {
  uint32_t magnitude = half & 0x7fff, sign = (uint32_t)(half & 0x8000) << 16;
  uint32_t bits = if_above(magnitude, 0x7bff, 0x7f800000, grow(magnitude, 10, 127 - 14));
  bits = if_above(magnitude, 0x7c00, 0x7fc00000 | magnitude << 13, bits);
  return float_of_bits(sign | bits);
}

/* bfloat16: the upper half of a float. */
static inline uint16_t bfloat16_from_float(float value) {
  uint32_t bits = float_bits(value);
  return (uint16_t)if_above(bits & 0x7fffffff, 0x7f800000, 0x7fc0, round_off(bits, 16));
}

static inline float bfloat16_to_float(uint16_t bits) {
  return float_of_bits((uint32_t)bits << 16);
}

/* 4 exponent bits from 2^-6, 3 mantissa bits, no infinity: what is too large becomes the largest, 448. */
static inline uint8_t float8_e4m3fn_from_float(float value) {
  uint32_t bits = float_bits(value), magnitude = bits & 0x7fffffff;
  uint32_t small = if_above(magnitude, 0x43e00000, 0x7e, shrink(magnitude, 3, 127 - 6));
  small = if_above(magnitude, 0x7f800000, 0x7f, small);
  return (uint8_t)((bits >> 24 & 0x80) | small);
}

static inline float float8_e4m3fn_to_float(uint8_t small) {
  uint32_t magnitude = small & 0x7f, sign = (uint32_t)(small & 0x80) << 24;
  return float_of_bits(sign | if_above(magnitude, 0x7e, 0x7ff00000, grow(magnitude, 3, 127 - 6)));
}

/* 5 exponent bits from 2^-14, 2 mantissa bits, with infinity. */
static inline uint8_t float8_e5m2_from_float(float value) {
  uint32_t bits = float_bits(value), magnitude = bits & 0x7fffffff;
  uint32_t small = if_above(magnitude, 0x477fffff, 0x7c, shrink(magnitude, 2, 127 - 14));
  small = if_above(magnitude, 0x7f800000, 0x7f, small);
  return (uint8_t)((bits >> 24 & 0x80) | small);
}

static inline float float8_e5m2_to_float(uint8_t small) {
  uint32_t magnitude = small & 0x7f, sign = (uint32_t)(small & 0x80) << 24;
  uint32_t bits = if_above(magnitude, 0x7b, 0x7f800000, grow(magnitude, 2, 127 - 14));
  bits = if_above(magnitude, 0x7c, 0x7fc00000 | magnitude << 21, bits);
  return float_of_bits(sign | bits);
}

#endif
