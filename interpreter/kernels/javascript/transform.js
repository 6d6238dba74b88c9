'use strict';
// Cells as Node's REPL mode takes them: types taken out, and modules' declarations turned into what a script may say.

const acorn = require('acorn');
const walk = require('acorn-walk');
const sucrase = require('sucrase');

const IMPORT = 'globalThis[Symbol.for("atoll.import")]';
const META = 'globalThis[Symbol.for("atoll.meta")]';

function parse(code) {
  const options = {
    ecmaVersion: 'latest',
    allowAwaitOutsideFunction: true,
    allowImportExportEverywhere: true,
    allowHashBang: true,
  };
  for (const sourceType of ['module', 'script']) {
    try {
      return acorn.parse(code, { ...options, sourceType });
    } catch { /* the engine itself says what is wrong with it */ }
  }
  return null;
}

function declaration(node) {
  const source = JSON.stringify(node.source.value);
  const named = [];
  let space = null;
  for (const specifier of node.specifiers) {
    const local = specifier.local.name;
    if (specifier.type === 'ImportNamespaceSpecifier') space = local;
    else if (specifier.type === 'ImportDefaultSpecifier') named.push(`default: ${local}`);
    else named.push(`${JSON.stringify(specifier.imported.name ?? specifier.imported.value)}: ${local}`);
  }
  const loaded = `await ${IMPORT}(${source})`;
  if (space !== null && named.length) return `const ${space} = ${loaded}, { ${named.join(', ')} } = ${space};`;
  if (space !== null) return `const ${space} = ${loaded};`;
  if (named.length) return `const { ${named.join(', ')} } = ${loaded};`;
  return `${loaded};`;
}

/** `code` ready to be evaluated. Throws SyntaxError for TypeScript that cannot be read. */
function transform(code, language) {
  let script = code;
  if (language === 'typescript') {
    const options = { transforms: ['typescript'], disableESTransforms: true, keepUnusedImports: true };
    script = sucrase.transform(code, options).code;
  }
  if (!/\b(import|export)\b/.test(script)) return script;
  const tree = parse(script);
  if (tree === null) return script;
  const edits = [];
  for (const node of tree.body) {
    if (node.type === 'ImportDeclaration') edits.push([node.start, node.end, declaration(node)]);
    else if (node.type === 'ExportNamedDeclaration') edits.push([node.start, node.declaration ? node.declaration.start : node.end, '']);
    else if (node.type === 'ExportDefaultDeclaration') edits.push([node.start, node.declaration.start, '']);
  }
  walk.full(tree, (node) => {
    if (node.type === 'ImportExpression') edits.push([node.start, node.start + 'import'.length, IMPORT]);
    else if (node.type === 'MetaProperty' && node.meta.name === 'import') edits.push([node.start, node.end, META]);
  });
  edits.sort((one, other) => other[0] - one[0]);
  for (const [start, end, text] of edits) script = script.slice(0, start) + text + script.slice(end);
  return script;
}

module.exports = { transform };
