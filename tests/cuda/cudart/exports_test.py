"""exports_test.py NAMES LIBRARY NODE: the library exports what the file names, in this version."""
import subprocess
import sys

names, library, node = sys.argv[1:]
listed = subprocess.run(['nm', '-D', '--defined-only', library], check=True, capture_output=True, text=True).stdout
exported = sorted(line.split()[2] for line in listed.splitlines() if line.split()[1] != 'A')
wanted = sorted(name + '@@' + node for name in open(names, encoding='ascii').read().split())
for missing in set(wanted) - set(exported):
    print('not exported:', missing)
for unknown in set(exported) - set(wanted):
    print(f'exported, but not in {names}:', unknown)
sys.exit(exported != wanted)
