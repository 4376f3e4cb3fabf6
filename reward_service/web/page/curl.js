// Formats a request of the page as a command for a POSIX shell.

const shell = text => `'${text.replaceAll("'", "'\\''")}'`;
const fileName = name => `"${name.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`;

/** curl command with the same files and fields; the key is read from a shell variable. */
export function curlCommand(root, files, fields, hasKey) {
  const parts = [`curl ${shell(`${root}v1/score`)}`];
  if (hasKey) parts.push(`-H "Authorization: Bearer $REWARD_API_KEY"`);
  for (const name of ["source", "candidates"])
    for (const file of files[name]) parts.push(`-F ${shell(`${name}=@${fileName(file.name)}`)}`);
  // --form-string: texts that begin with @ or < are sent literally.
  for (const [name, value] of fields) parts.push(`--form-string ${shell(`${name}=${value}`)}`);
  return parts.join(" \\\n  ");
}
