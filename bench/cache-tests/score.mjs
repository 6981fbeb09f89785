// Counts what of the public suite has passed, by kind, and names what has not: `node score.mjs SUITE RESULTS`.
import fs from 'node:fs'
import path from 'node:path'
import { pathToFileURL } from 'node:url'

const [suite, results] = process.argv.slice(2)
const load = async (name) => (await import(pathToFileURL(path.resolve(suite, 'tests', name)))).default
const tests = [...await load('index.mjs'), await load('surrogate-control.mjs')].flatMap((it) => it.tests)
const text = fs.readFileSync(results, 'utf8')
const passed = JSON.parse(text.slice(text.indexOf('{')))

for (const kind of ['required', 'optimal', 'check']) {
  const of = tests.filter((it) => !it.browser_only && (it.kind || 'required') === kind)
  const failed = of.filter((it) => passed[it.id] !== true)
  console.log(`${kind}: ${of.length - failed.length} of ${of.length}`)
  if (kind !== 'check') failed.forEach((it) => console.log(`  not: ${it.id}`))
}
