// The part of the language reference about commands of the user's own.

export const runText = `## Commands of your own

\`\`\`lora
run report {
  command = "python {script} {lora} > {text}"
  inputs  = { lora = small  script = "tools/report.py" }
  outputs = { text = "report.txt" }
}
save "report.txt" { from = report.text }
\`\`\`

A \`run\` block is a command line that a build runs when something that it reads has changed.

- **\`{name}\`** in the command stands for the path of an input or an output. Each path is quoted, whatever the file is
  called: write no quotes around it. Where a quoted path would not be one word (in quotes, backticks, \`\${…}\`,
  arithmetic, behind \`<<\`) it is an error; text in braces that is no declared name, such as \`awk '{print}'\`, is left to the
  shell there. Everything that is declared has to be named in the command, and nothing else can be.
- **Inputs** are LoRAs (\`small\`, \`raw@40\`), pictures of \`preview\` and \`analyze\` blocks, outputs of other runs
  (\`report.text\`), and files, in quotes. The command gets copies of what lorac stores, and your files where they are. A
  file that it reads without naming it as an input is not noticed when it changes.
- **Outputs** are files. They are written into a folder that goes away, stored when the command has ended well, and can be
  saved under any name of the same ending. One whose name ends in \`.safetensors\` is a LoRA: it can stand wherever a LoRA
  can, and is looked at as one of a \`lora\` block when it is read. Its base is that of the LoRAs that the run reads, unless
  \`base\` says another. One in \`.png\` is a picture.
- **It runs again** when the command, the content of an input, the name of an output or a variable of \`env\` is another.
  All other environment variables are passed on, and change nothing.
- **The shell** is bash, with \`set -euo pipefail\`: a failing part of a pipe fails, and so does a variable that is not set.
  It begins in the folder of the program and has no standard input. The last line that it prints is shown while it runs,
  the last lines with its exit code when it fails. Ctrl-C ends it with everything that it has started.
`;
