#!/usr/bin/env python
"""Looks through a file in COCO's format for what training and scoring would stumble over or pass over silently."""

import json
import os
import os.path as osp
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import _bootstrap  # noqa: F401, I001  (first: it finds the package)

from rich.console import Console

from mmltm.apis.cli import make_parser, make_table
from mmltm.apis.coco_audit import audit, check_structure, read_json
from mmltm.apis.coco_files import audit_files
from mmltm.apis.coco_repair import repair, sort_categories
from mmltm.errors import UserError, run

EXAMPLES = """examples:
  # the file alone, then with its images: do they exist, and are they of the size that the file says?
  python tools/dataset_converters/check_coco.py annotations/instances_train2017.json
  python tools/dataset_converters/check_coco.py annotations/instances_train2017.json --images train2017

  # a repaired copy, its categories in the order of another file, which decides the labels
  python tools/dataset_converters/check_coco.py val.json --images val --like train.json --fix val_repaired.json

Ends with status 1 if anything is found that a run would refuse. Masks are looked at where any annotation has one.
"""


def main():
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument('file', help='annotation file, JSON as COCO has it')
    parser.add_argument('--images', metavar='DIR', help='folder of the images; opens the header of each')
    parser.add_argument('--like', metavar='FILE', help='file whose categories are to be the same, in the same order')
    parser.add_argument('--fix', metavar='OUT', help='write a repaired copy, and say what has been changed')
    args = parser.parse_args()

    for path, exists in ((args.file, osp.isfile), (args.like, osp.isfile), (args.images, osp.isdir)):
        if path and not exists(path):
            raise UserError(f'{path} does not exist')
    if args.fix and osp.exists(args.fix):
        raise UserError(f'{args.fix} exists: choose another name for the repaired copy')
    coco = read_json(args.file)
    check_structure(args.file, coco)
    findings = audit(coco) + (audit_files(coco, args.images) if args.images else [])
    table = make_table(args.file, ('kind', 'what is wrong', 'count', 'first', 'remedy', '--fix'), texts=6)
    for f in sorted(findings, key=lambda finding: not finding.check.fatal):
        table.add_row('fatal' if f.check.fatal else 'warning', f.name + f.note, f'{len(f.rows)} of {f.total}', f.ids,
                      f.check.remedy, f.check.fix)
    counts = ', '.join(f'{len(coco.get(part, []))} {part}' for part in ('images', 'annotations', 'categories'))
    Console().print(table if findings else f'{args.file}: nothing is wrong ({counts})', soft_wrap=not findings)
    for finding in repair(coco, folder=args.images) if args.fix else ():
        print(f'{finding.name}: {len(finding.rows)} {finding.check.part}: {finding.check.fix}')
    if args.like:
        other = read_json(args.like)
        check_structure(args.like, other)
        print(sort_categories(coco, other, args.like))
    if args.fix:
        with open(f'{args.fix}.part', 'w', encoding='utf-8') as file:
            json.dump(coco, file)
        os.replace(f'{args.fix}.part', args.fix)
        print(f'Repaired copy: {args.fix}')
    elif any(finding.check.fatal for finding in findings):
        sys.exit(1)


if __name__ == '__main__':
    run(main)
