# Writes every ```cpp block that holds a main function to FOLDER/<document>_<number>.cpp and prints the path.
# Usage: awk -v folder=DIR -f extract_programs.awk README.md ...
function finish_block() {
  if (text ~ /int main\(/) {
    document = FILENAME
    sub(/.*\//, "", document)
    sub(/\.md$/, "", document)
    path = folder "/" document "_" ++count[document] ".cpp"
    printf "#line %d \"%s\"\n%s", first, FILENAME, text > path
    close(path)
    print path
  }
  inside = 0
}
/^```/ && inside { finish_block(); next }
/^```cpp[[:space:]]*$/ { inside = 1; text = ""; first = FNR + 1; next }
inside { text = text $0 "\n" }
