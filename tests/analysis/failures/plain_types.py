"""The definition of docs/METRICS.md as loops over pixels: an independent path to the type of every wrong pixel."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

VOID = 255


def flood(mask, connectivity):
    """Component number of each pixel by flood filling, in the order of first pixels."""
    height, width = mask.shape
    steps = [(0, 1), (1, 0), (0, -1), (-1, 0)]
    if connectivity == 8:
        steps += [(1, 1), (1, -1), (-1, 1), (-1, -1)]
    labels = np.full(mask.shape, -1)
    count = 0
    for row in range(height):
        for column in range(width):
            if labels[row, column] >= 0:
                continue
            stack = [(row, column)]
            labels[row, column] = count
            while stack:
                r, c = stack.pop()
                for dr, dc in steps:
                    y, x = r + dr, c + dc
                    if 0 <= y < height and 0 <= x < width and labels[y, x] < 0 and mask[y, x] == mask[r, c]:
                        labels[y, x] = count
                        stack.append((y, x))
            count += 1
    return labels, count


def near_something(pixel, others, width):
    return any(max(abs(pixel[0] - r), abs(pixel[1] - c)) <= width for r, c in others)


def plain_types(truth, prediction, kinds, width, connectivity=8):
    """Words of the type of each wrong pixel, None elsewhere."""
    places = list(np.ndindex(truth.shape))
    of_truth, _ = flood(truth, connectivity)
    of_prediction, _ = flood(prediction, connectivity)
    known = [p for p in places if truth[p] != VOID]
    wrong = [p for p in known if truth[p] != prediction[p]]
    members, predicted = defaultdict(list), defaultdict(list)
    for p in known:
        members[of_truth[p]].append(p)
        predicted[of_prediction[p]].append(p)

    def share(pixels, condition):
        return sum(map(condition, pixels)) / len(pixels)

    def is_right(p):
        return truth[p] == prediction[p]

    def is_level(p):
        return not is_right(p) and kinds[truth[p]] == kinds[prediction[p]]

    found = {a: share(own, is_right) >= 0.1 for a, own in members.items()}
    renamed = {a: not found[a] and share(own, is_level) >= 0.5 for a, own in members.items()}
    based = {b: share(own, is_right) >= 0.1 for b, own in predicted.items()}
    mistaken = {b: not based[b] and share(own, is_level) >= 0.5 for b, own in predicted.items()}
    reach = {}
    for class_id in {int(truth[p]) for p in wrong} | {int(prediction[p]) for p in wrong}:
        right = [p for p in known if truth[p] == prediction[p] == class_id]
        seam = [p for p in places if truth[p] == VOID and near_something(p, right, width)]
        reach[class_id] = right + seam

    def error(p):
        """What is one error: lost of a true component, too much of a predicted one, or between a pair of the two."""
        if not (0 <= p[0] < truth.shape[0] and 0 <= p[1] < truth.shape[1]) or p not in wrong_places:
            return None
        if kinds[truth[p]] > kinds[prediction[p]] and (found[of_truth[p]] or renamed[of_truth[p]]):
            return "lost", of_truth[p]
        if kinds[truth[p]] < kinds[prediction[p]] and (based[of_prediction[p]] or mistaken[of_prediction[p]]):
            return "extra", of_prediction[p]
        return "pair", of_truth[p], of_prediction[p]

    def wide(p):
        side = range(width + 1)
        return any(
            all(error((p[0] - up + r, p[1] - left + c)) == error(p) for r in side for c in side)
            for up in side
            for left in side
        )

    wrong_places = set(wrong)
    types = {}
    for p in wrong:
        a, b, t, q = of_truth[p], of_prediction[p], truth[p], prediction[p]
        boundary = near_something(p, reach[t], width) and near_something(p, reach[q], width) and not wide(p)
        if kinds[t] > kinds[q]:
            if not found[a]:
                types[p] = "under-extent" if renamed[a] else "missed component"
            else:
                types[p] = "boundary" if boundary else "under-extent"
        elif kinds[t] < kinds[q]:
            if not based[b]:
                types[p] = "over-extent" if mistaken[b] else "invented component"
            else:
                types[p] = "boundary" if boundary else "over-extent"
        elif renamed[a]:
            types[p] = "wrong class, whole"
        elif not (found[a] and based[b]):
            types[p] = "wrong class, part"
        else:
            types[p] = "boundary" if boundary else "confused area"

    void = [p for p in places if truth[p] == VOID]
    ends = dict(types)
    for kind, bridge, own, other in (
        ("under-extent", "split", of_truth, of_prediction),
        ("over-extent", "merged", of_prediction, of_truth),
    ):
        side = "lost" if bridge == "split" else "extra"
        for component in {int(own[p]) for p in wrong}:
            parts = defaultdict(list)
            for p in known:
                if own[p] == component and is_right(p):
                    parts[other[p]].append(p)
            sizes = {n: len(members[component if bridge == "split" else n]) for n in parts}
            parts = {n: pixels for n, pixels in parts.items() if len(pixels) >= 0.05 * sizes[n]}
            parts = {n: pixels + [v for v in void if near_something(v, pixels, width)] for n, pixels in parts.items()}
            whole = [p for p in wrong if error(p) == (side, component)]
            beyond = [p for p in whole if types[p] == kind]
            cut = np.zeros(truth.shape, int)
            for p in beyond:
                cut[p] = 1
            pieces, count = flood(cut, connectivity)

            def parts_near(pixels, distance, parts=parts):
                return sum(any(near_something(p, part, distance) for p in pixels) for part in parts.values())

            marked = {p for p in whole if parts_near([p], width) >= 2}
            for piece in range(count):
                pixels = [p for p in beyond if pieces[p] == piece]
                if parts_near(pixels, width + 1) >= 2:
                    marked.update(pixels)
            for p in whole:
                if p in marked or (types[p] == "boundary" and near_something(p, marked, width)):
                    ends[p] = bridge
    types = ends
    return np.array([[types.get((y, x)) for x in range(truth.shape[1])] for y in range(truth.shape[0])], object)
