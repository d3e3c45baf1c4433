"use strict";
/* The user's own model, made in the browser: the formulas of hierfed.methods.hierarchical.users, personal and
   hierfed.models.kriging, number for number. Matrices are row by row in Float64Array. Nothing here sends anything. */
var hierfed = (function () {
  function bytesOf(text) {
    if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
    const raw = atob(text), bytes = new Uint8Array(raw.length);
    for (let k = 0; k < raw.length; k++) bytes[k] = raw.charCodeAt(k);
    return bytes;
  }

  /* Arrays of items are 16-bit codes, column after column: value = lowest + step * code. */
  function decodedItems(packed, items) {
    const codes = new Uint16Array(bytesOf(packed.codes).buffer), columns = packed.lowest.length;
    const values = new Float64Array(items * columns);
    for (let c = 0; c < columns; c++)
      for (let i = 0, at = c * items; i < items; i++) values[i * columns + c] = packed.lowest[c] + packed.step[c] * codes[at + i];
    return { values, columns };
  }

  function decoded(data) {
    const items = data.titles.length, shared = { items, constants: data.constants, parts: [] };
    for (const [name, packed] of Object.entries(data.of_items)) shared[name] = decodedItems(packed, items);
    for (const [name, text] of Object.entries(data.small)) shared[name] = new Float64Array(bytesOf(text).buffer);
    data.constants.amplitudes.forEach((amplitude, k) => shared.parts.push({ amplitude, at: shared["part_" + k] }));
    if (data.letters) {
      shared.letters = {
        width: data.letters.width,
        starts: new Int32Array(bytesOf(data.letters.starts).buffer),
        columns: new Int32Array(bytesOf(data.letters.columns).buffer),
        values: new Float64Array(new Uint16Array(bytesOf(data.letters.codes).buffer)).map((code) => code * data.letters.step),
      };
    }
    shared.rank = shared.item_mean.columns - 1;
    shared.slopeCount = shared.slopes.columns;
    shared.size = 1 + shared.rank + shared.slopeCount;
    shared.priorPrecision = inverse(shared.user_spread, shared.size);
    return shared;
  }

  /* Linear algebra. Four sums at once do not wait for each other. */
  function product(left, a, right, b, count) {
    let one = 0, two = 0, three = 0, four = 0, k = 0;
    for (; k + 3 < count; k += 4) {
      one += left[a + k] * right[b + k];
      two += left[a + k + 1] * right[b + k + 1];
      three += left[a + k + 2] * right[b + k + 2];
      four += left[a + k + 3] * right[b + k + 3];
    }
    for (; k < count; k++) one += left[a + k] * right[b + k];
    return one + two + (three + four);
  }

  /* The factor is written over the matrix. Two columns at once, four rows at once: each number that is read serves several of eight sums. */
  function cholesky(lower, n) {
    const at = (row, column) => lower[row * n + column];
    const finish = (i, j, first, second) => {
      const left = (lower[i * n + j] = first / at(j, j));
      lower[i * n + j + 1] = (second - left * at(j + 1, j)) / at(j + 1, j + 1);
    };
    const rest = (i, j, k) => at(i, j) - product(lower, i * n, lower, j * n, k);
    for (let j = 0; j < n; j += 2) {
      const a = j * n, b = a + n, root = (row, sum) => {
        if (!(sum > 0)) throw new Error("a matrix is not positive definite");
        lower[row * n + row] = Math.sqrt(sum);
      };
      root(j, rest(j, j, j));
      if (j + 1 === n) break;
      lower[b + j] = rest(j + 1, j, j) / at(j, j);
      root(j + 1, rest(j + 1, j + 1, j + 1));
      let i = j + 2;
      for (; i + 3 < n; i += 4) {
        const c = i * n, d = c + n, e = d + n, f = e + n;
        let ca = 0, cb = 0, da = 0, db = 0, ea = 0, eb = 0, fa = 0, fb = 0;
        for (let k = 0; k < j; k++) {
          const left = lower[a + k], right = lower[b + k];
          const one = lower[c + k], two = lower[d + k], three = lower[e + k], four = lower[f + k];
          ca += one * left;
          cb += one * right;
          da += two * left;
          db += two * right;
          ea += three * left;
          eb += three * right;
          fa += four * left;
          fb += four * right;
        }
        finish(i, j, at(i, j) - ca, at(i, j + 1) - cb);
        finish(i + 1, j, at(i + 1, j) - da, at(i + 1, j + 1) - db);
        finish(i + 2, j, at(i + 2, j) - ea, at(i + 2, j + 1) - eb);
        finish(i + 3, j, at(i + 3, j) - fa, at(i + 3, j + 1) - fb);
      }
      for (; i < n; i++) finish(i, j, rest(i, j, j), rest(i, j + 1, j));
    }
    return lower;
  }

  function forward(lower, n, right) {
    const out = right.slice();
    let i = 0;
    for (; i + 1 < n; i += 2) {
      const a = i * n, b = a + n;
      let one = 0, two = 0, three = 0, four = 0, k = 0;
      for (; k < i; k += 2) {
        const first = out[k], second = out[k + 1];
        one += lower[a + k] * first;
        two += lower[a + k + 1] * second;
        three += lower[b + k] * first;
        four += lower[b + k + 1] * second;
      }
      out[i] = (out[i] - (one + two)) / lower[a + i];
      out[i + 1] = (out[i + 1] - (three + four) - lower[b + i] * out[i]) / lower[b + i + 1];
    }
    if (i < n) out[i] = (out[i] - product(lower, i * n, out, 0, i)) / lower[i * n + i];
    return out;
  }

  function solve(lower, n, right) {
    const out = forward(lower, n, right);
    /* Two rows at once, so that what is left is read and written half as often. */
    let i = n - 1;
    for (; i > 0; i -= 2) {
      const a = i * n, b = a - n, last = (out[i] /= lower[a + i]);
      const first = (out[i - 1] = (out[i - 1] - lower[a + i - 1] * last) / lower[b + i - 1]);
      for (let k = 0; k < i - 1; k++) out[k] -= lower[a + k] * last + lower[b + k] * first;
    }
    if (!i) out[0] /= lower[0];
    return out;
  }

  /* The diagonal of the inverse of a matrix, from its Cholesky factor: a sixth of the work of the whole inverse.
     Four columns of the factor's inverse are made at once, side by side, two rows at once. */
  function inverseDiagonal(lower, n) {
    const out = new Float64Array(n + 3), columns = new Float64Array(4 * n);
    const put = (i, j, one, two, three, four) => {
      const root = lower[i * n + i], row = 4 * i;
      columns[row] = -one / root;
      columns[row + 1] = -two / root;
      columns[row + 2] = -three / root;
      columns[row + 3] = -four / root;
      if (i < j + 4) columns[row + i - j] += 1 / root;
      for (let c = 0; c < 4; c++) out[j + c] += columns[row + c] * columns[row + c];
    };
    for (let j = 0; j < n; j += 4)
      for (let i = j; i < n; i += 2) {
        let a = i * n + j, b = i + 1 < n ? a + n : a;
        let one = 0, two = 0, three = 0, four = 0, five = 0, six = 0, seven = 0, eight = 0;
        for (let place = 4 * j; place < 4 * i; place += 4, a++, b++) {
          const first = lower[a], second = lower[b];
          const w = columns[place], x = columns[place + 1], y = columns[place + 2], z = columns[place + 3];
          one += first * w;
          two += first * x;
          three += first * y;
          four += first * z;
          five += second * w;
          six += second * x;
          seven += second * y;
          eight += second * z;
        }
        put(i, j, one, two, three, four);
        if (i + 1 === n) break;
        const left = lower[b], row = 4 * i;
        five += left * columns[row];
        six += left * columns[row + 1];
        seven += left * columns[row + 2];
        eight += left * columns[row + 3];
        put(i + 1, j, five, six, seven, eight);
      }
    return out.subarray(0, n);
  }

  function inverse(matrix, n) {
    const lower = cholesky(matrix.slice(), n), out = new Float64Array(n * n), unit = new Float64Array(n);
    for (let j = 0; j < n; j++) {
      unit.fill(0);
      unit[j] = 1;
      out.set(solve(lower, n, unit), j * n);
    }
    return out;
  }

  function times(matrix, n, vector) {
    const out = new Float64Array(n);
    for (let i = 0; i < n; i++) out[i] = product(matrix, i * n, vector, 0, n);
    return out;
  }

  function dot(left, right) {
    return product(left, 0, right, 0, left.length);
  }

  /* x = (1, q, f) of an item. */
  function vectorOf(shared, item) {
    const x = new Float64Array(shared.size), mean = shared.item_mean, slopes = shared.slopes;
    x[0] = 1;
    for (let k = 0; k < shared.rank; k++) x[1 + k] = mean.values[item * mean.columns + 1 + k];
    for (let k = 0; k < slopes.columns; k++) x[1 + shared.rank + k] = slopes.values[item * slopes.columns + k];
    return x;
  }

  function biasOf(shared, item) {
    return shared.item_mean.values[item * shared.item_mean.columns];
  }

  /* z of a user of whom nothing is known. */
  function unknown(shared) {
    return shared.covariate_weights.subarray(0, shared.size);
  }

  /* An entry of the covariance of (b, q), of which the lower triangle is kept row by row. */
  function covarianceOf(shared, item, row, column) {
    const at = row >= column ? (row * (row + 1)) / 2 + column : (column * (column + 1)) / 2 + row;
    return shared.item_covariance.values[item * shared.item_covariance.columns + at];
  }

  function uncertainOf(shared, item, products) {
    const size = 1 + shared.rank;
    let sum = 0;
    for (let a = 0; a < size; a++) for (let b = 0; b < size; b++) sum += covarianceOf(shared, item, a, b) * products[a * size + b];
    return sum;
  }

  /* k(i, j) of one item with all items. */
  function kernelColumn(shared, item) {
    const out = new Float64Array(shared.items), { letters } = shared;
    for (const { amplitude, at } of shared.parts) {
      const { values, columns } = at, own = values.subarray(item * columns, (item + 1) * columns);
      for (let i = 0, place = 0; i < shared.items; i++) {
        let square = 0;
        for (let c = 0; c < columns; c++, place++) {
          const gap = values[place] - own[c];
          square += gap * gap;
        }
        const distance = Math.sqrt(Math.max(3 * square, 1e-12));
        out[i] += amplitude * (1 + distance) * Math.exp(-distance);
      }
    }
    if (letters && shared.constants.title_amplitude) {
      const { starts, columns, values } = letters, own = new Float64Array(letters.width);
      for (let k = starts[item]; k < starts[item + 1]; k++) own[columns[k]] = values[k];
      for (let i = 0; i < shared.items; i++) {
        let sum = 0;
        for (let k = starts[i]; k < starts[i + 1]; k++) sum += own[columns[k]] * values[k];
        out[i] += shared.constants.title_amplitude * sum;
      }
    }
    return out;
  }

  /* The same from a Map that keeps columns. */
  function columnOf(shared, item, columns) {
    if (!columns.has(item)) columns.set(item, kernelColumn(shared, item));
    return columns.get(item);
  }

  function kernelOfItself(shared, item) {
    const { letters } = shared;
    let sum = shared.constants.amplitudes.reduce((a, b) => a + b, 0);
    if (letters && shared.constants.title_amplitude)
      for (let k = letters.starts[item]; k < letters.starts[item + 1]; k++)
        sum += shared.constants.title_amplitude * letters.values[k] * letters.values[k];
    return sum;
  }

  /* Sums over the ratings of expectations over the items' posteriors. */
  function evidenceOf(shared, items, y) {
    const { size, rank, slopeCount } = shared, n = items.length, wide = rank + 1;
    const products = new Float64Array(size * size), targets = new Float64Array(size);
    const sums = new Float64Array(shared.covariate_factors.length + rank);
    let squares = 0;
    items.forEach((item, j) => {
      const x = vectorOf(shared, item), bias = biasOf(shared, item), left = y[j] - bias;
      for (let a = 0; a < size; a++) for (let b = 0; b < size; b++) products[a * size + b] += x[a] * x[b];
      for (let a = 1; a < wide; a++) for (let b = 1; b < wide; b++) products[a * size + b] += covarianceOf(shared, item, a, b);
      for (let a = 0; a < size; a++) targets[a] += left * x[a];
      for (let a = 1; a < wide; a++) targets[a] -= covarianceOf(shared, item, a, 0);
      squares += left * left + covarianceOf(shared, item, 0, 0);
      for (let c = 0; c < slopeCount; c++) sums[c] += shared.covariate_factors[c] * x[wide + c];
      for (let k = 0; k < rank; k++) sums[slopeCount + k] += shared.constants.factor_covariate_scale * (x[1 + k] - shared.average[k]);
    });
    const covariates = new Float64Array(1 + sums.length);
    covariates[0] = 1;
    for (let c = 0; c < sums.length; c++) covariates[1 + c] = sums[c] / (n + shared.constants.covariate_shrinkage);
    return { products, targets, squares, covariates };
  }

  function posteriorOf(shared, known, priorMean, precision) {
    const { size, priorPrecision } = shared, system = new Float64Array(size * size);
    for (let k = 0; k < system.length; k++) system[k] = priorPrecision[k] + precision * known.products[k];
    const covariance = inverse(system, size), right = times(priorPrecision, size, priorMean);
    for (let a = 0; a < size; a++) right[a] += precision * known.targets[a];
    const mean = times(covariance, size, right), pulled = times(priorPrecision, size, mean);
    let quadratic = 0, traces = size;
    for (let a = 0; a < size; a++) quadratic += mean[a] * (right[a] - pulled[a]);
    for (let k = 0; k < system.length; k++) traces -= covariance[k] * priorPrecision[k];
    const squared = known.squares - 2 * dot(mean, known.targets) + (quadratic + traces) / precision;
    return { mean, covariance, squared: Math.max(squared, 1e-9) };
  }

  /* E (1, p)(1, p)' */
  function factorProducts(mean, covariance, shared) {
    const size = 1 + shared.rank, out = new Float64Array(size * size);
    const p = (a) => (a ? mean[a] : 1);
    for (let a = 0; a < size; a++)
      for (let b = 0; b < size; b++) out[a * size + b] = p(a) * p(b) + (a && b ? covariance[a * shared.size + b] : 0);
    return out;
  }

  /* The user's model. rated: [[item, stars], ...]; columns: a Map that keeps kernel columns between models.
     before: the model of most of the same ratings, whose covariances of items are taken over; they depend on no stars. */
  function userModel(shared, rated, columns, before) {
    const { constants, size } = shared, order = [...rated].sort((a, b) => a[0] - b[0]);
    const items = order.map((pair) => pair[0]), y = order.map((pair) => (pair[1] - constants.centre) / constants.unit);
    const n = items.length, model = { shared, items, ratings: order.map((pair) => pair[1]), n };
    if (!n) {
      model.priorMean = unknown(shared);
      model.products = factorProducts(model.priorMean, shared.user_spread, shared);
      return model;
    }
    const known = evidenceOf(shared, items, y), priorMean = new Float64Array(size);
    for (let h = 0; h < known.covariates.length; h++)
      for (let a = 0; a < size; a++) priorMean[a] += known.covariates[h] * shared.covariate_weights[h * size + a];
    let precision = constants.precision, found = posteriorOf(shared, known, priorMean, precision);
    for (let sweep = 1; sweep < constants.sweeps; sweep++) {
      precision = (constants.strength + n / 2) / (constants.strength / constants.precision + found.squared / 2);
      found = posteriorOf(shared, known, priorMean, precision);
    }
    Object.assign(model, { priorMean, precision, products: factorProducts(found.mean, found.covariance, shared) });
    const weights = items.map((item) => Math.pow(1 + shared.raters.values[item], -constants.noise_fall));
    const usual = weights.reduce((a, b) => a + b, 0) / n;
    model.noise = items.map(
      (item, j) => (weights[j] / usual) * (constants.noise_share / precision + uncertainOf(shared, item, model.products)),
    );
    model.vectors = items.map((item) => kriged(shared, item));
    model.residuals = Float64Array.from(items, (item, j) => y[j] - biasOf(shared, item) - dot(priorMean, vectorOf(shared, item)));
    model.left = model.vectors.map((x) => spreadTimes(shared, x));
    model.columns = items.map((item) => columnOf(shared, item, columns));
    model.covariance = covarianceOfOwn(model, before);
    model.solved = solved(model);
    return model;
  }

  /* (x, c), on which kriging works: besides z, a user has a slope on c, what an unknown user expects of an item. */
  function kriged(shared, item) {
    const x = new Float64Array(shared.size + 1);
    x.set(vectorOf(shared, item));
    x[shared.size] = biasOf(shared, item) + dot(unknown(shared), x.subarray(0, shared.size));
    return x;
  }

  function spreadTimes(shared, x) {
    const out = new Float64Array(shared.size + 1);
    out.set(times(shared.user_spread, shared.size, x));
    out[shared.size] = shared.constants.quality_slope_variance * x[shared.size];
    return out;
  }

  function evidenceAt(constants, level, half, logRoot, squares) {
    const fit = constants.kriging_strength + (level * squares) / 2, log = Math.log(level);
    return { fit, evidence: half * log - logRoot - (constants.kriging_strength + half) * Math.log(fit) - (log * log) / 2 };
  }

  function softmax(values) {
    const most = Math.max(...values), weights = values.map((value) => Math.exp(value - most));
    const sum = weights.reduce((a, b) => a + b, 0);
    return weights.map((weight) => weight / sum);
  }

  /* Between own items, without noise: the lower triangle, which is all that Cholesky's factor is made of. */
  function covarianceOfOwn(model, before) {
    const { n, items } = model, out = new Float64Array(n * n);
    const known = new Map(before && before.n ? before.items.map((item, row) => [item, row]) : []);
    const rows = items.map((item) => (known.has(item) ? known.get(item) : -1));
    for (let a = 0; a < n; a++)
      for (let b = 0; b <= a; b++)
        out[a * n + b] =
          rows[a] < 0 || rows[b] < 0
            ? dot(model.left[a], model.vectors[b]) + model.columns[a][items[b]]
            : before.covariance[rows[a] * before.n + rows[b]];
    return out;
  }

  function solved(model) {
    const { n, shared, covariance } = model, { constants } = shared;
    const levels = constants.levels.map((level) => {
      const system = covariance.slice();
      for (let a = 0; a < n; a++) system[a * n + a] += level * model.noise[a];
      const factor = cholesky(system, n), solution = solve(factor, n, model.residuals);
      let logRoot = 0;
      for (let a = 0; a < n; a++) logRoot += Math.log(factor[a * n + a]);
      return { level, factor, solution, logRoot, ...evidenceAt(constants, level, n / 2, logRoot, dot(model.residuals, solution)) };
    });
    const shares = softmax(levels.map((each) => each.evidence)), weights = new Float64Array(n);
    levels.forEach((each, l) => each.solution.forEach((value, a) => (weights[a] += shares[l] * value)));
    const likeliest = levels[shares.indexOf(Math.max(...shares))];
    const loudness = likeliest.fit / (constants.kriging_strength + n / 2);
    return { levels, shares, weights, factor: likeliest.factor, loudness, signal: loudness / likeliest.level };
  }

  function crossOf(model, item, x) {
    return Float64Array.from(model.left, (left, a) => dot(left, x) + model.columns[a][item]);
  }

  function within(constants, stars) {
    return Math.min(Math.max(stars, constants.lowest), constants.highest);
  }

  /* The weighted sum of columns, added to `out`; four at once, so that it is read and written a fourth as often. */
  function addColumns(out, columns, weights) {
    let a = 0;
    for (; a + 3 < columns.length; a += 4) {
      const [one, two, three, four] = columns.slice(a, a + 4), [w, x, y, z] = weights.subarray(a, a + 4);
      for (let i = 0; i < out.length; i++) out[i] += w * one[i] + x * two[i] + (y * three[i] + z * four[i]);
    }
    for (; a < columns.length; a++) {
      const column = columns[a], weight = weights[a];
      for (let i = 0; i < out.length; i++) out[i] += weight * column[i];
    }
  }

  /* Expected stars of all items, before they are cut to the scale. */
  function means(model) {
    const { shared } = model, { constants } = shared, out = new Float64Array(shared.items);
    const direction = new Float64Array(shared.size + 1);
    direction.set(model.priorMean);
    if (model.n)
      model.solved.weights.forEach((weight, a) => model.left[a].forEach((value, k) => (direction[k] += weight * value)));
    unknown(shared).forEach((value, k) => (direction[k] += direction[shared.size] * value));
    const { slopes, item_mean: mean } = shared;
    for (let i = 0; i < shared.items; i++) {
      let sum = mean.values[i * mean.columns] * (1 + direction[shared.size]) + direction[0];
      for (let k = 1; k < mean.columns; k++) sum += direction[k] * mean.values[i * mean.columns + k];
      for (let k = 0; k < slopes.columns; k++) sum += direction[mean.columns + k] * slopes.values[i * slopes.columns + k];
      out[i] = sum;
    }
    if (model.n) addColumns(out, model.columns, model.solved.weights);
    for (let i = 0; i < shared.items; i++) out[i] = constants.centre + constants.unit * out[i];
    return out;
  }

  /* Mean and variance of one item's stars, noise included. */
  function distribution(model, item) {
    const { shared } = model, { constants } = shared, x = vectorOf(shared, item), wide = kriged(shared, item);
    let mean = biasOf(shared, item) + dot(model.priorMean, x), variance, noise;
    if (model.n) {
      const { solved: found } = model, cross = crossOf(model, item, wide), gained = forward(found.factor, model.n, cross);
      mean += dot(cross, found.weights);
      variance = found.signal * (dot(wide, spreadTimes(shared, wide)) + kernelOfItself(shared, item) - dot(gained, gained));
      noise = (found.loudness * constants.noise_share) / model.precision;
    } else {
      variance = dot(x, times(shared.user_spread, shared.size, x));
      noise = 1 / constants.precision;
    }
    const scale = constants.deviation_scale * constants.unit;
    const parts = { taste: variance, film: uncertainOf(shared, item, model.products), noise };
    return { mean: constants.centre + constants.unit * mean, variance: scale * scale * (parts.taste + parts.film + parts.noise), parts };
  }

  /* The levels' shares without each own rating, which are the same for all items: made with the first reason. */
  function sharesWithout(model) {
    const { n, solved: found, shared } = model;
    for (const each of found.levels) {
      each.diagonal = inverseDiagonal(each.factor, n);
      each.squares = dot(model.residuals, each.solution);
    }
    return model.items.map((_, j) =>
      softmax(
        found.levels.map(({ level, solution, diagonal, logRoot, squares }) => {
          const left = squares - (solution[j] * solution[j]) / diagonal[j];
          return evidenceAt(shared.constants, level, (n - 1) / 2, logRoot + Math.log(diagonal[j]) / 2, left).evidence;
        }),
      ),
    );
  }

  /* By how many stars each own rating moves an item: the mean with it minus the mean without it, prior and noise held. */
  function reasons(model, item) {
    const { n, shared } = model, { constants } = shared;
    if (!n) return [];
    const { solved: found } = model, cross = crossOf(model, item, kriged(shared, item)), whole = dot(cross, found.weights);
    found.without = found.without || sharesWithout(model);
    const means = found.levels.map(({ solution }) => dot(cross, solution));
    const pulled = found.levels.map(({ factor }) => solve(factor, n, cross));
    return model.items.map((own, j) => {
      let rest = 0;
      if (n > 1)
        found.levels.forEach(({ solution, diagonal }, l) => {
          rest += found.without[j][l] * (means[l] - (pulled[l][j] * solution[j]) / diagonal[j]);
        });
      return { item: own, stars: model.ratings[j], moved: constants.unit * (whole - rest) };
    });
  }

  return { decoded, userModel, columnOf, means, distribution, reasons, within };
})();
