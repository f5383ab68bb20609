#include "ed25519.h"

#include "sha512.h"

/* Numbers of 256 bits, least word first. In the field modulo p = 2^255 - 19 any number that fits stands for its class,
 * since 2^256 = 38. */
typedef struct {
    uint32_t w[8];
} num;

/* A point in extended coordinates: x = X / Z, y = Y / Z, T = X Y / Z. */
typedef struct {
    num x, y, z, t;
} point;

static const num prime = {{0xffffffed, -1u, -1u, -1u, -1u, -1u, -1u, 0x7fffffff}};
static const num order = {{0x5cf5d3ed, 0x5812631a, 0xa2f79cd6, 0x14def9de, 0x00000000, 0x00000000, 0x00000000, 0x10000000}};
static const num curve = {{0x135978a3, 0x75eb4dca, 0x4141d8ab, 0x00700a4d, 0x7779e898, 0x8cc74079, 0x2b6ffe73, 0x52036cee}};   /* d = -121665 / 121666 */
static const num imaginary = {{0x4a0ea0b0, 0xc4ee1b27, 0xad2fe478, 0x2f431806, 0x3dfbd7a7, 0x2b4d0099, 0x4fc1df0b, 0x2b832480}}; /* the square root of -1 */
static const point base = {{{0x8f25d51a, 0xc9562d60, 0x9525a7b2, 0x692cc760, 0xfdd6dc5c, 0xc0a4e231, 0xcd6e53fe, 0x216936d3}}, {{0x66666658, 0x66666666, 0x66666666, 0x66666666, 0x66666666, 0x66666666, 0x66666666, 0x66666666}}, {{1}}, {{0xa5b7dda3, 0x6dde8ab3, 0x775152f5, 0x20f09f80, 0x64abe37d, 0x66ea4e8e, 0xd78b7665, 0x67875f0f}}};

static num loaded(const uint8_t bytes[32])
{
    num found;
    for (int i = 0; i < 8; i++)
        found.w[i] = bytes[4 * i] | bytes[4 * i + 1] << 8 | bytes[4 * i + 2] << 16 | (uint32_t)bytes[4 * i + 3] << 24;
    return found;
}

/* Add a word, again and again while it carries out of the top as 38. */
static void carry(num *to, uint64_t word)
{
    while (word) {
        for (int i = 0; i < 8; i++) {
            word += to->w[i];
            to->w[i] = (uint32_t)word;
            word >>= 32;
        }
        word *= 38;
    }
}

static num sum(const num *a, const num *b)
{
    num found;
    uint64_t word = 0;
    for (int i = 0; i < 8; i++) {
        word += (uint64_t)a->w[i] + b->w[i];
        found.w[i] = (uint32_t)word;
        word >>= 32;
    }
    carry(&found, word * 38);
    return found;
}

/* Subtract and return whether it went below zero. */
static uint32_t less(num *a, const num *b)
{
    int64_t word = 0;
    for (int i = 0; i < 8; i++) {
        word += (int64_t)a->w[i] - b->w[i];
        a->w[i] = (uint32_t)word;
        word >>= 32;
    }
    return word < 0;
}

static num difference(const num *a, const num *b)
{
    const num fold = {{38}};
    num found = *a;
    if (less(&found, b)) /* it is 2^256 too much, which is 38 */
        while (less(&found, &fold)) {}
    return found;
}

static num product(const num *a, const num *b)
{
    uint32_t wide[16] = {0};
    for (int i = 0; i < 8; i++) {
        uint64_t word = 0;
        for (int k = 0; k < 8; k++) {
            word += (uint64_t)a->w[i] * b->w[k] + wide[i + k];
            wide[i + k] = (uint32_t)word;
            word >>= 32;
        }
        wide[i + 8] = (uint32_t)word;
    }
    num found;
    uint64_t word = 0;
    for (int i = 0; i < 8; i++) {
        word += (uint64_t)wide[i + 8] * 38 + wide[i];
        found.w[i] = (uint32_t)word;
        word >>= 32;
    }
    carry(&found, word * 38);
    return found;
}

/* Return a number's least form. */
static num least(num a)
{
    for (int i = 0; i < 3; i++) {
        num lower = a;
        if (!less(&lower, &prime)) a = lower;
    }
    return a;
}

static int same(const num *a, const num *b)
{
    const num one = least(*a), two = least(*b);
    uint32_t apart = 0;
    for (int i = 0; i < 8; i++) apart |= one.w[i] ^ two.w[i];
    return !apart;
}

/* Return a to the power of (p - 5) / 8 = 2^252 - 3. */
static num power(const num *a)
{
    num found = {{1}};
    for (int i = 251; i >= 0; i--) {
        found = product(&found, &found);
        if (i != 1) found = product(&found, a);
    }
    return found;
}

static point added(const point *p, const point *q)
{
    num a = difference(&p->y, &p->x), b = difference(&q->y, &q->x), c, d, e, f, g, h;
    a = product(&a, &b);
    b = sum(&p->y, &p->x);
    c = sum(&q->y, &q->x);
    b = product(&b, &c);
    c = product(&p->t, &q->t);
    c = product(&c, &curve);
    c = sum(&c, &c);
    d = product(&p->z, &q->z);
    d = sum(&d, &d);
    e = difference(&b, &a);
    f = difference(&d, &c);
    g = sum(&d, &c);
    h = sum(&b, &a);
    return (point){product(&e, &f), product(&g, &h), product(&f, &g), product(&e, &h)};
}

static point multiple(const point *p, const num *times)
{
    point found = {{{0}}, {{1}}, {{1}}, {{0}}};
    for (int i = 255; i >= 0; i--) {
        found = added(&found, &found);
        if (times->w[i / 32] >> i % 32 & 1) found = added(&found, p);
    }
    return found;
}

/* Return whether 32 bytes are a point, and which (RFC 8032, 5.1.3). */
static int decoded(point *to, const uint8_t bytes[32])
{
    const num one = {{1}}, zero = {{0}};
    num y = loaded(bytes), u, v, x, check;
    const uint32_t sign = y.w[7] >> 31;
    y.w[7] &= 0x7fffffff;
    num lower = y;
    if (!less(&lower, &prime)) return 0;
    u = product(&y, &y);
    v = product(&u, &curve);
    u = difference(&u, &one);
    v = sum(&v, &one);
    num v3 = product(&v, &v);
    v3 = product(&v3, &v);
    num v7 = product(&v3, &v3);
    v7 = product(&v7, &v);
    x = product(&u, &v7);
    x = power(&x);
    x = product(&x, &v3);
    x = product(&x, &u);
    check = product(&x, &x);
    check = product(&check, &v);
    const num minus = difference(&zero, &u);
    if (same(&check, &minus)) x = product(&x, &imaginary);
    else if (!same(&check, &u)) return 0;
    x = least(x);
    if (same(&x, &zero) && sign) return 0;
    if ((x.w[0] & 1) != sign) x = difference(&zero, &x);
    *to = (point){x, y, one, product(&x, &y)};
    return 1;
}

/* Return 512 bits modulo the order of the base, bit by bit. */
static num reduced(const uint8_t wide[64])
{
    num found = {{0}};
    for (int i = 511; i >= 0; i--) {
        uint32_t bit = wide[i / 8] >> i % 8 & 1;
        for (int k = 0; k < 8; k++) {
            const uint32_t top = found.w[k] >> 31;
            found.w[k] = found.w[k] << 1 | bit;
            bit = top;
        }
        num lower = found;
        if (!less(&lower, &order)) found = lower;
    }
    return found;
}

int ed25519_verify(const uint8_t key[32], const uint8_t signature[64], const uint8_t *message, uint32_t size)
{
    point a, r;
    num s = loaded(signature + 32), lower = s;
    if (!less(&lower, &order) || !decoded(&a, key) || !decoded(&r, signature)) return 0;
    sha512 hash;
    uint8_t digest[64];
    sha512_begin(&hash);
    sha512_more(&hash, signature, 32);
    sha512_more(&hash, key, 32);
    sha512_more(&hash, message, size);
    sha512_end(&hash, digest);
    const num k = reduced(digest);
    const point left = multiple(&base, &s), part = multiple(&a, &k), right = added(&r, &part);
    const num one = product(&left.x, &right.z), two = product(&right.x, &left.z);
    const num three = product(&left.y, &right.z), four = product(&right.y, &left.z);
    return same(&one, &two) && same(&three, &four);
}
