/* The published decoders in plain JavaScript: makeDecoder(model) gives a function from a code to a
   picture. Everything is inside that one function, so that a Worker can be made of its source.

   model: {shapes, weights}, the decoder's tensors in torch's order and layout, as one base64 text of
   16-bit floats. A decoder that begins with a matrix is DeConv (linear, then transposed
   convolutions), one that begins with a kernel is Spatial Broadcast (three convolutions of 3x3).
   A feature map is kept pixel by pixel, [height, width, channels]. */
"use strict";

function makeDecoder(model) {
  const SIDE = 64;
  const tensors = unpack(model);

  /* 16-bit floats to 32 bits; a subnormal one has no leading 1. */
  function unpack({ shapes, weights }) {
    const text = atob(weights);
    const read = (at) => {
      const bits = text.charCodeAt(at) | (text.charCodeAt(at + 1) << 8);
      const exponent = (bits >> 10) & 31, fraction = (bits & 1023) / 1024;
      const size = exponent ? (1 + fraction) * 2 ** (exponent - 15) : fraction * 2 ** -14;
      return bits >> 15 ? -size : size;
    };
    let at = 0;
    return shapes.map((shape) => {
      const data = new Float32Array(shape.reduce((a, b) => a * b));
      for (let i = 0; i < data.length; i++, at += 2) data[i] = read(at);
      return { shape, data };
    });
  }

  /* c [m, n] = a [m, k] times b [n, k] transposed; m and n multiples of 4, as all are here.
     Sixteen sums at a time stay in registers. */
  function multiply(a, a0, b, b0, c, c0, m, n, k) {
    for (let j = 0; j < n; j += 4) {
      for (let i = 0; i < m; i += 4) {
        let p00 = 0, p01 = 0, p02 = 0, p03 = 0, p10 = 0, p11 = 0, p12 = 0, p13 = 0;
        let p20 = 0, p21 = 0, p22 = 0, p23 = 0, p30 = 0, p31 = 0, p32 = 0, p33 = 0;
        let p = a0 + i * k, q = b0 + j * k;
        for (const end = p + k; p < end; p++, q++) {
          const x0 = a[p], x1 = a[p + k], x2 = a[p + 2 * k], x3 = a[p + 3 * k];
          const y0 = b[q], y1 = b[q + k], y2 = b[q + 2 * k], y3 = b[q + 3 * k];
          p00 += x0 * y0; p01 += x0 * y1; p02 += x0 * y2; p03 += x0 * y3;
          p10 += x1 * y0; p11 += x1 * y1; p12 += x1 * y2; p13 += x1 * y3;
          p20 += x2 * y0; p21 += x2 * y1; p22 += x2 * y2; p23 += x2 * y3;
          p30 += x3 * y0; p31 += x3 * y1; p32 += x3 * y2; p33 += x3 * y3;
        }
        let r = c0 + i * n + j;
        c[r] = p00; c[r + 1] = p01; c[r + 2] = p02; c[r + 3] = p03; r += n;
        c[r] = p10; c[r + 1] = p11; c[r + 2] = p12; c[r + 3] = p13; r += n;
        c[r] = p20; c[r + 1] = p21; c[r + 2] = p22; c[r + 3] = p23; r += n;
        c[r] = p30; c[r + 1] = p31; c[r + 2] = p32; c[r + 3] = p33;
      }
    }
  }

  function relu(x) {
    for (let i = 0; i < x.length; i++) if (x[i] < 0) x[i] = 0;
    return x;
  }

  /* A transposed convolution with padding 1: every input pixel adds its stamp of kernel x kernel
     pixels to the output. One of stride 1 with its kernel turned around is a plain convolution.
     at(o, i, y, x): where torch keeps a weight. */
  function stamps(weight, bias, side, stride, inputs, outputs, kernel, at) {
    const size = kernel * kernel * outputs, padded = (size + 3) & ~3;
    const matrix = new Float32Array(padded * inputs);
    for (let y = 0; y < kernel; y++)
      for (let x = 0; x < kernel; x++)
        for (let o = 0; o < outputs; o++)
          for (let i = 0; i < inputs; i++)
            matrix[((y * kernel + x) * outputs + o) * inputs + i] = weight[at(o, i, y, x)];
    const stamp = new Float32Array(side * side * padded), large = side * stride;
    const out = new Float32Array(large * large * outputs);
    return (map) => {
      multiply(map, 0, matrix, 0, stamp, 0, side * side, padded, inputs);
      for (let i = 0; i < out.length; i += outputs) out.set(bias, i);
      for (let row = 0; row < side; row++)
        for (let column = 0; column < side; column++)
          for (let y = 0; y < kernel; y++) {
            const down = stride * row - 1 + y;
            if (down < 0 || down >= large) continue;
            for (let x = 0; x < kernel; x++) {
              const right = stride * column - 1 + x;
              if (right < 0 || right >= large) continue;
              const to = (down * large + right) * outputs;
              const from = (row * side + column) * padded + (y * kernel + x) * outputs;
              for (let o = 0; o < outputs; o++) out[to + o] += stamp[from + o];
            }
          }
      return out;
    };
  }

  function deconv() {
    const [matrix, offset, ...rest] = tensors, first = matrix.data, latents = matrix.shape[1];
    const channels = rest[0].shape[0], start = Math.sqrt(offset.data.length / channels);
    const layers = [];
    for (let l = 0, side = start; l < rest.length; l += 2, side *= 2) {
      const [inputs, outputs, kernel] = rest[l].shape;
      layers.push(stamps(rest[l].data, rest[l + 1].data, side, 2, inputs, outputs, kernel,
        (o, i, y, x) => ((i * outputs + o) * kernel + y) * kernel + x));
    }
    const small = new Float32Array(offset.data.length), pixels = start * start;
    return (z) => {
      for (let row = 0; row < small.length; row++) {
        let sum = offset.data[row];
        for (let l = 0; l < latents; l++) sum += first[row * latents + l] * z[l];
        small[(row % pixels) * channels + Math.floor(row / pixels)] = sum;  // channels go last
      }
      return layers.reduce((map, layer) => layer(relu(map)), small);
    };
  }

  /* The first layer. All pixels of a broadcast code are alike, so the code's part of the output
     takes nine values per channel, by which edges the kernel hangs over. The coordinates' part
     never changes. Returns a map with a border of zeros, as the next layer wants it. */
  function broadcast(weight, bias) {
    const [outputs, inputs] = weight.shape, latents = inputs - 2, wide = SIDE + 2;
    const w = (o, i, y, x) => weight.data[((o * inputs + i) * 3 + y) * 3 + x];
    const place = (k) => (2 * k) / (SIDE - 1) - 1;
    const inside = (k) => k >= 0 && k < SIDE;
    const fixed = new Float32Array(SIDE * SIDE * outputs);
    for (let row = 0, at = 0; row < SIDE; row++)
      for (let column = 0; column < SIDE; column++)
        for (let o = 0; o < outputs; o++, at++) {
          let sum = bias.data[o];
          for (let y = 0; y < 3; y++)
            for (let x = 0; x < 3; x++)
              if (inside(row + y - 1) && inside(column + x - 1))
                sum += w(o, latents, y, x) * place(column + x - 1)
                  + w(o, latents + 1, y, x) * place(row + y - 1);
          fixed[at] = sum;
        }
    const which = (k) => (k === 0 ? 0 : k === SIDE - 1 ? 2 : 1);
    const nine = new Float32Array(9 * outputs), out = new Float32Array(wide * wide * outputs);
    return (z) => {
      for (let n = 0, at = 0; n < 9; n++)
        for (let o = 0; o < outputs; o++, at++) {
          let sum = 0;
          for (let y = n < 3 ? 1 : 0; y < (n > 5 ? 2 : 3); y++)
            for (let x = n % 3 === 0 ? 1 : 0; x < (n % 3 === 2 ? 2 : 3); x++)
              for (let l = 0; l < latents; l++) sum += w(o, l, y, x) * z[l];
          nine[at] = sum;
        }
      for (let row = 0, from = 0; row < SIDE; row++)
        for (let column = 0; column < SIDE; column++) {
          let to = ((row + 1) * wide + column + 1) * outputs;
          let at = (3 * which(row) + which(column)) * outputs;
          for (let o = 0; o < outputs; o++) {
            const sum = fixed[from++] + nine[at++];
            out[to++] = sum > 0 ? sum : 0;
          }
        }
      return out;
    };
  }

  /* The middle layer, a convolution of 3x3, by Winograd's rearrangement for tiles of 4x4 (Lavin &
     Gray 2016, arXiv 1509.09308): a quarter of the multiplications, the same sums. */
  function winograd(weight, bias) {
    const [outputs, inputs] = weight.shape, wide = SIDE + 2, tiles = (SIDE / 4) ** 2;
    const G = [[1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6],
      [1 / 24, 1 / 12, 1 / 6], [1 / 24, -1 / 12, 1 / 6], [0, 0, 1]];
    const kernels = new Float32Array(36 * outputs * inputs);
    for (let o = 0, from = 0; o < outputs; o++)
      for (let i = 0; i < inputs; i++, from += 9)
        for (let a = 0; a < 6; a++)
          for (let b = 0; b < 6; b++) {
            let sum = 0;
            for (let y = 0; y < 3; y++)
              for (let x = 0; x < 3; x++) sum += G[a][y] * weight.data[from + 3 * y + x] * G[b][x];
            kernels[((6 * a + b) * outputs + o) * inputs + i] = sum;
          }
    /* One of six rows and columns, at once for all channels: reads and writes every step-th. */
    function before(from, p, step, to, q, stride) {
      for (let c = 0; c < inputs; c++, p++, q++) {
        const d0 = from[p], d1 = from[p + step], d2 = from[p + 2 * step];
        const d3 = from[p + 3 * step], d4 = from[p + 4 * step], d5 = from[p + 5 * step];
        to[q] = 4 * d0 - 5 * d2 + d4;
        to[q + stride] = d4 + d3 - 4 * (d1 + d2);
        to[q + 2 * stride] = d4 - d3 + 4 * (d1 - d2);
        to[q + 3 * stride] = d4 - d2 + 2 * (d3 - d1);
        to[q + 4 * stride] = d4 - d2 - 2 * (d3 - d1);
        to[q + 5 * stride] = 4 * d1 - 5 * d3 + d5;
      }
    }
    function after(from, p, step, to, q, stride) {
      for (let c = 0; c < outputs; c++, p++, q++) {
        const m1 = from[p + step], m2 = from[p + 2 * step];
        const m3 = from[p + 3 * step], m4 = from[p + 4 * step];
        const sum = m1 + m2, difference = m1 - m2, far = m3 + m4, twice = 2 * (m3 - m4);
        to[q] = from[p] + sum + far;
        to[q + stride] = difference + twice;
        to[q + 2 * stride] = sum + 4 * far;
        to[q + 3 * stride] = difference + 4 * twice + from[p + 5 * step];
      }
    }
    const V = new Float32Array(36 * tiles * inputs), M = new Float32Array(36 * tiles * outputs);
    const half = new Float32Array(36 * Math.max(inputs, outputs));
    const out = new Float32Array(SIDE * SIDE * outputs);
    return (map) => {
      const across = SIDE / 4, plane = tiles * inputs, drawn = tiles * outputs;
      for (let tile = 0; tile < tiles; tile++) {
        const corner = (Math.floor(tile / across) * 4 * wide + (tile % across) * 4) * inputs;
        for (let x = 0; x < 6; x++)
          before(map, corner + x * inputs, wide * inputs, half, x * inputs, 6 * inputs);
        for (let y = 0; y < 6; y++)
          before(half, 6 * y * inputs, inputs, V, 6 * y * plane + tile * inputs, plane);
      }
      for (let p = 0; p < 36; p++)
        multiply(V, p * plane, kernels, p * outputs * inputs, M, p * drawn, tiles, outputs, inputs);
      for (let tile = 0; tile < tiles; tile++) {
        const corner = (Math.floor(tile / across) * 4 * SIDE + (tile % across) * 4) * outputs;
        for (let x = 0; x < 6; x++)
          after(M, x * drawn + tile * outputs, 6 * drawn, half, x * outputs, 6 * outputs);
        for (let y = 0; y < 4; y++)
          after(half, 6 * y * outputs, outputs, out, corner + y * SIDE * outputs, outputs);
      }
      for (let i = 0; i < out.length; i += outputs)
        for (let o = 0; o < outputs; o++) {
          const sum = out[i + o] + bias.data[o];
          out[i + o] = sum > 0 ? sum : 0;
        }
      return out;
    };
  }

  function spatialBroadcast() {
    const [w0, b0, w1, b1, w2, b2] = tensors, [outputs, inputs] = w2.shape;
    const first = broadcast(w0, b0), second = winograd(w1, b1);
    const third = stamps(w2.data, b2.data, SIDE, 1, inputs, outputs, 3,
      (o, i, y, x) => ((o * inputs + i) * 3 + 2 - y) * 3 + 2 - x);
    return (z) => third(second(first(z)));
  }

  /* A code, [latents], to a picture [64, 64, 3], not clamped; the next call overwrites it. */
  return tensors[0].shape.length === 2 ? deconv() : spatialBroadcast();
}
